//! `ledger-client policy new`: the beginning of a bundle, from the manifest of an MCP server.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use policy_engine::limits::MAX_BUNDLE_BYTES;
use policy_engine::skeleton;
use serde_json::json;

use super::super::{Exit, Failure, print_json, read_file};
use crate::files;

#[derive(Debug, Args)]
pub(in crate::cli) struct New {
    /// The bundle's directory, which is made.
    folder: PathBuf,
    /// What the server answers to `tools/list`.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The first part of the actions' ids, as in `server/tool`. Default: the tools' bare names, or the servers that the
    /// manifest names.
    #[arg(long)]
    server: Option<String>,
    /// The bundle's name. Default: that of its directory.
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn new(new: &New, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let folder = &new.folder;
    if folder.exists() {
        let what = format!("{} is there already; name a new folder", folder.display());
        return Err(Failure::new(Exit::Usage, what));
    }
    let own = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = new.name.clone().or(own).unwrap_or_default();
    let bytes = read_file(&new.manifest, MAX_BUNDLE_BYTES, Exit::Configuration)?;
    let told = |what: &str| {
        let what = format!("{} {what}", new.manifest.display());
        Failure::new(Exit::Configuration, what)
    };
    let manifest = String::from_utf8(bytes).map_err(|_| told("is not UTF-8"))?;
    let files = skeleton(&name, new.server.as_deref(), &manifest).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        told(&format!("gives no bundle\n{}", lines.join("\n")))
    })?;
    let content = files.iter();
    let content = content.map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    files::new_folder(folder, content)?;
    let paths: Vec<&String> = files.keys().collect();
    if json {
        print_json(out, &json!({ "name": name, "files": paths }))?;
    } else {
        for path in paths {
            writeln!(out, "{}", folder.join(path).display())?;
        }
    }
    Ok(Exit::Done)
}
