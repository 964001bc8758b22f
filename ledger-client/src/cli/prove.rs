//! `ledger-client prove` and `checkpoint`: what others can check without asking anybody.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ledger_core::evidence::{self, MAX_EVIDENCE_LEN};
use ledger_proto::v1::evidence::Subject as About;
use ledger_proto::v1::{self, get_evidence_request::Subject};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on, told};
use super::session::parse_session;
use super::{Exit, Failure, print_json};
use crate::answer_parts::next_part;
use crate::client::Client;
use crate::error::Error;
use crate::transport::Answer;
use crate::{files, paths};

#[derive(Debug, Args)]
pub(super) struct Prove {
    /// The entry of a decision.
    #[arg(required_unless_present = "session", conflicts_with = "session")]
    index: Option<u64>,
    /// An ended session: that these are all of its decisions.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Where to write the evidence.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    format: Format,
    /// Content to include: needs the right to read it; can be repeated.
    #[arg(long = "with", value_enum, value_name = "KIND")]
    with: Vec<Kind>,
    #[command(flatten)]
    connection: Connection,
}

/// How evidence is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Canonical bytes.
    Binary,
    /// The same as JSON.
    Json,
}

/// What a compartment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    /// The tool's arguments.
    Input,
    /// What the action is about.
    Resource,
    /// What the session is for.
    Context,
    /// The tool's output.
    Output,
    /// What was executed instead.
    ExecutedInput,
}

impl Kind {
    const fn message(self) -> v1::CompartmentKind {
        match self {
            Self::Input => v1::CompartmentKind::Input,
            Self::Resource => v1::CompartmentKind::Resource,
            Self::Context => v1::CompartmentKind::Context,
            Self::Output => v1::CompartmentKind::Output,
            Self::ExecutedInput => v1::CompartmentKind::ExecutedInput,
        }
    }
}

pub(super) fn prove(arguments: &Prove, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    block_on(async {
        let client = arguments.connection.open(Speaker::Any).await?;
        let subject = match (&arguments.session, arguments.index) {
            (Some(session), _) => Subject::SessionId(parse_session(session)?.to_vec()),
            (None, index) => Subject::Decision(index.unwrap_or_default()),
        };
        let mut with = arguments.with.clone();
        with.sort();
        with.dedup();
        let read = async |consistency, deadline| {
            let message = v1::GetEvidenceRequest {
                subject: Some(subject.clone()),
                trust_epoch: 0,
                compartments: with.iter().map(|kind| kind.message().into()).collect(),
                consistency,
            };
            let stream = client.read_stream(paths::GET_EVIDENCE, message, deadline);
            stream.await
        };
        // Content may have been erased elsewhere: one node's word is not enough to hand it out.
        let settled = if with.is_empty() {
            client.read_settled(read).await?
        } else {
            read(None, client.deadline()).await?.into()
        };
        let of_one_node = settled.alone_because.is_some();
        let Answer {
            answer: mut parts,
            by,
        }: Answer<tonic::Streaming<v1::GetEvidenceResponse>> = told(settled);
        let mut bytes = Vec::new();
        let deadline = client.deadline();
        while let Some(part) = next_part(&mut parts, deadline, "the evidence").await? {
            bytes.extend_from_slice(&part.chunk);
            if bytes.len() > MAX_EVIDENCE_LEN {
                let what = "the evidence is longer than evidence can be";
                return Err(Error::contradiction(what).of(&by).into());
            }
        }
        let decoded = convincing(&client, &bytes, &subject).map_err(|error| error.of(&by))?;
        let bytes = match arguments.format {
            Format::Binary => bytes,
            Format::Json => evidence::to_json(&decoded).into_bytes(),
        };
        files::replace(&arguments.out, &bytes)?;
        if json {
            let value = json!({
                "file": arguments.out,
                "bytes": bytes.len(),
                "verified": true,
                "of_one_node": of_one_node,
            });
            print_json(out, &value)?;
        } else {
            let file = arguments.out.display();
            writeln!(out, "{file}: {} bytes, verified", bytes.len())?;
        }
        Ok(Exit::Done)
    })
}

/// The evidence, if it would convince somebody else and is about what was asked for: nothing else is written.
fn convincing(client: &Client, bytes: &[u8], subject: &Subject) -> Result<v1::Evidence, Error> {
    let decoded =
        evidence::decode(bytes).map_err(|error| Error::contradiction(error.to_string()))?;
    evidence::verify(&decoded, client.trust().pinned())?;
    if decoded.subject.as_ref() != Some(&about(subject)) {
        return Err(Error::contradiction(
            "the evidence is about something else than was asked for",
        ));
    }
    Ok(decoded)
}

/// What evidence says that it is about.
fn about(subject: &Subject) -> About {
    match subject {
        Subject::Decision(index) => About::Decision(*index),
        Subject::SessionId(id) => About::Session(id.clone()),
    }
}

#[derive(Debug, Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn checkpoint(
    arguments: &Checkpoint,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    block_on(async {
        let client = arguments.connection.client(Speaker::Nobody)?;
        client.check().await?;
        let (note, checkpoint) = client.checkpoint(0).await?;
        client.observe(&note, &checkpoint).await?;
        if json {
            let value = json!({
                "origin": checkpoint.origin(),
                "size": checkpoint.size().0,
                "root": checkpoint.root().to_string(),
                "note": note,
            });
            print_json(out, &value)?;
        } else {
            write!(out, "{note}")?;
        }
        Ok(Exit::Done)
    })
}
