//! `ledger-client policy show`: the rules that decide, as the ledger holds them.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger_proto::v1;
use policy_engine::{Bundle, BundleDigest};
use serde_json::json;

use super::super::connection::{Connection, Speaker, block_on};
use super::super::show::printable;
use super::super::{Exit, Failure, print_json};
use crate::answer_parts::next_part;
use crate::error::Error;
use crate::transport::Answer;
use crate::{files, paths};

/// Longest bundle in bytes.
const MAX_BUNDLE_LEN: usize = 8 * 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The namespace.
    #[arg(long)]
    namespace: String,
    /// The bundle's digest. Default: the one that decides now.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Write its files into this new folder instead of showing its rules.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn show(show: &Show, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let wanted = match &show.digest {
        Some(digest) => hex::decode(digest)
            .ok()
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| Failure::new(Exit::Usage, "a digest has 64 hexadecimal digits"))?,
        None => Vec::new(),
    };
    if let Some(folder) = show.out.as_ref().filter(|folder| folder.exists()) {
        let what = format!("{} is there already; name a new folder", folder.display());
        return Err(Failure::new(Exit::Usage, what));
    }
    let bundle = block_on(fetch(show, wanted))?;
    if let Some(folder) = &show.out {
        let content = bundle.files().iter();
        let content = content.map(|file| (file.path.as_str(), file.text.as_bytes()));
        files::new_folder(folder, content)?;
    }
    let files: Vec<&str> = bundle
        .files()
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    if json {
        let rules = bundle
            .rules()
            .map(|file| json!({ "file": file.path, "text": file.text }));
        let value = json!({
            "digest": bundle.digest().to_string(),
            "name": bundle.name(),
            "files": files,
            "rules": rules.collect::<Vec<_>>(),
        });
        print_json(out, &value)?;
    } else if let Some(folder) = &show.out {
        writeln!(out, "{}: {} files", folder.display(), files.len())?;
    } else {
        writeln!(out, "// {} {}", printable(bundle.name()), bundle.digest())?;
        for file in bundle.rules() {
            writeln!(out, "// {}", printable(&file.path))?;
            for line in file.text.lines() {
                writeln!(out, "{}", printable(line))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn fetch(show: &Show, wanted: Vec<u8>) -> Result<Bundle, Failure> {
    let client = show.connection.open(Speaker::Any).await?;
    let message = v1::GetBundleRequest {
        namespace: show.namespace.clone(),
        digest: wanted.clone(),
    };
    let stream = client.read_stream(paths::GET_BUNDLE, message, client.deadline());
    let Answer {
        answer: mut parts,
        by,
    }: Answer<tonic::Streaming<v1::GetBundleResponse>> = stream.await?;
    let (mut digest, mut bytes) = (wanted, Vec::new());
    let deadline = client.deadline();
    while let Some(part) = next_part(&mut parts, deadline, "the bundle").await? {
        if digest.is_empty() {
            digest = part.digest;
        }
        bytes.extend_from_slice(&part.chunk);
        if bytes.len() > MAX_BUNDLE_LEN {
            let what = "the bundle is longer than a bundle can be";
            return Err(Error::contradiction(what).of(&by).into());
        }
    }
    if BundleDigest::of(&bytes).0.as_slice() != digest {
        let what = "the bundle is not the one that its digest names";
        return Err(Error::contradiction(what).of(&by).into());
    }
    Bundle::from_packed(&bytes).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Error::contradiction(lines.join("; ")).of(&by).into()
    })
}
