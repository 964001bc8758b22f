//! Evidence as JSON, for people and tools that cannot read protobuf. Same content, same digest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger_proto::v1::{self, evidence::Subject};
use serde::{Deserialize, Serialize};

use super::file::{FileError, MAX_EVIDENCE_LEN, digest};

/// The value of `format`.
const FORMAT: &str = "countersign-evidence-v1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    format: String,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    entries: Vec<ProvenEntry>,
    checkpoint: String,
    trust_steps: Vec<TrustStep>,
    compartments: Vec<Compartment>,
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvenEntry {
    index: u64,
    entry: String,
    path: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustStep {
    entry: ProvenEntry,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compartment {
    index: u64,
    kind: i32,
    salt: String,
    content: String,
}

/// The JSON form: byte strings in base64, the session id and the digest in hex.
#[must_use]
pub fn to_json(evidence: &v1::Evidence) -> String {
    let (decision, session) = match &evidence.subject {
        Some(Subject::Decision(index)) => (Some(*index), None),
        Some(Subject::Session(id)) => (None, Some(hex::encode(id))),
        None => (None, None),
    };
    let json = Evidence {
        format: FORMAT.to_owned(),
        origin: evidence.origin.clone(),
        decision,
        session,
        entries: evidence.entries.iter().map(entry_to_json).collect(),
        checkpoint: evidence.checkpoint.clone(),
        trust_steps: evidence
            .trust_steps
            .iter()
            .map(|step| TrustStep {
                entry: entry_to_json(step.entry.as_ref().unwrap_or(&v1::ProvenEntry::default())),
                checkpoint: step.checkpoint.clone(),
            })
            .collect(),
        compartments: evidence
            .compartments
            .iter()
            .map(compartment_to_json)
            .collect(),
        digest: digest(evidence).map(hex::encode).unwrap_or_default(),
    };
    // Strings and numbers always serialize.
    serde_json::to_string_pretty(&json).unwrap_or_default()
}

/// Reads the JSON form.
///
/// # Errors
/// [`FileError::Json`] for another shape, [`FileError::Damaged`] if the digest does not match.
pub fn from_json(text: &str) -> Result<v1::Evidence, FileError> {
    if text.len() > 2 * MAX_EVIDENCE_LEN {
        return Err(FileError::TooLong);
    }
    let json: Evidence =
        serde_json::from_str(text).map_err(|error| FileError::Json(error.to_string()))?;
    if json.format != FORMAT {
        return Err(FileError::Header);
    }
    let subject = match (json.decision, &json.session) {
        (Some(index), None) => Subject::Decision(index),
        (None, Some(id)) => {
            Subject::Session(hex::decode(id).map_err(|error| FileError::Json(error.to_string()))?)
        }
        _ => {
            return Err(FileError::Json(
                "exactly one of `decision` and `session` is needed".to_owned(),
            ));
        }
    };
    let evidence = v1::Evidence {
        origin: json.origin,
        subject: Some(subject),
        entries: json
            .entries
            .iter()
            .map(entry_from_json)
            .collect::<Result<_, _>>()?,
        checkpoint: json.checkpoint,
        trust_steps: json
            .trust_steps
            .iter()
            .map(|step| {
                Ok(v1::TrustStep {
                    entry: Some(entry_from_json(&step.entry)?),
                    checkpoint: step.checkpoint.clone(),
                })
            })
            .collect::<Result<_, FileError>>()?,
        compartments: json
            .compartments
            .iter()
            .map(compartment_from_json)
            .collect::<Result<_, _>>()?,
    };
    let matches = digest(&evidence).is_some_and(|digest| hex::encode(digest) == json.digest);
    if matches {
        Ok(evidence)
    } else {
        Err(FileError::Damaged)
    }
}

fn entry_to_json(entry: &v1::ProvenEntry) -> ProvenEntry {
    ProvenEntry {
        index: entry.index,
        entry: STANDARD.encode(&entry.entry),
        path: entry
            .path
            .iter()
            .map(|hash| STANDARD.encode(hash))
            .collect(),
    }
}

fn entry_from_json(entry: &ProvenEntry) -> Result<v1::ProvenEntry, FileError> {
    Ok(v1::ProvenEntry {
        index: entry.index,
        entry: bytes(&entry.entry)?,
        path: entry
            .path
            .iter()
            .map(|hash| bytes(hash))
            .collect::<Result<_, _>>()?,
    })
}

fn compartment_to_json(opened: &v1::OpenedCompartment) -> Compartment {
    let compartment = opened.compartment.clone().unwrap_or_default();
    Compartment {
        index: opened.index,
        kind: compartment.kind,
        salt: STANDARD.encode(&compartment.salt),
        content: STANDARD.encode(&compartment.content),
    }
}

fn compartment_from_json(json: &Compartment) -> Result<v1::OpenedCompartment, FileError> {
    let compartment = v1::Compartment {
        kind: json.kind,
        salt: bytes(&json.salt)?,
        content: bytes(&json.content)?,
    };
    Ok(v1::OpenedCompartment {
        index: json.index,
        compartment: Some(compartment),
    })
}

fn bytes(text: &str) -> Result<Vec<u8>, FileError> {
    STANDARD
        .decode(text)
        .map_err(|error| FileError::Json(error.to_string()))
}
