//! `ledger-client key`: private keys, and the enrolments that register them.
//!
//! Whoever will use a key makes it, and shows only the enrolment: the public key with the proof that its holder has the
//! private one and means this identity of this ledger.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ledger_core::id::{Identity, KeyId};
use ledger_proto::v1::{self, command::Body};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::connection::{Speaker, block_on, configuration};
use super::governing::{Governing, print_applied};
use super::{Exit, Failure, print_json};
use crate::files;
use crate::key_file::KeyFile;
use crate::paths;
use crate::signing::now_us;
use crate::trust::Trust;

/// Longest enrolment file in bytes.
const MAX_ENROLMENT_LEN: usize = 64 * 1024;
/// How far this machine's clock may be ahead of the ledger's, in microseconds: a key is valid from so long ago.
const SKEW_US: u64 = 300_000_000;
/// Microseconds in a day.
const DAY_US: u64 = 86_400_000_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a private key and print its enrolment.
    New {
        /// Whose key it is, such as `agent:refund-bot`, `gateway:bank` or `operator:ada`.
        #[arg(long, value_name = "KIND:ID")]
        identity: String,
        /// Where to write the private key. Never overwrites.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        validity: Validity,
    },
    /// Print the enrolment of a key that exists.
    Enrol {
        /// The key file.
        key: PathBuf,
        #[command(flatten)]
        validity: Validity,
    },
    /// Add a key to an identity, so that the old one can be retired.
    Add {
        /// The new key's enrolment, as `key new` printed it.
        enrolment: PathBuf,
        #[command(flatten)]
        by: Governing,
    },
    /// End a key now.
    Retire {
        /// The key id, in hexadecimal digits.
        key_id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// List the keys of an identity.
    List {
        /// Whose, such as `agent:refund-bot`.
        identity: String,
        #[command(flatten)]
        by: Governing,
    },
}

/// For which ledger, and for how long.
#[derive(Debug, Args)]
pub(super) struct Validity {
    /// The ledger's trust policy: it says which ledger the proof is for.
    #[arg(long, env = "COUNTERSIGN_TRUST", value_name = "FILE")]
    trust: PathBuf,
    /// For how many days the key is valid.
    #[arg(long, default_value_t = 90, value_name = "N")]
    days: u64,
}

/// A public key with its proof, as people hand it on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrolment {
    /// Whose.
    pub(super) identity: String,
    /// For which ledger.
    origin: String,
    /// 16 bytes in hexadecimal digits.
    key_id: String,
    /// 32 bytes in hexadecimal digits.
    public_key: String,
    /// From when it is valid, microseconds since 1970.
    not_before_us: u64,
    /// When it ends, microseconds since 1970.
    not_after_us: u64,
    /// 64 bytes in hexadecimal digits.
    proof_of_possession: String,
}

impl Enrolment {
    fn of(key: &KeyFile, identity: &Identity, validity: &Validity) -> Result<Self, Failure> {
        let trust = Trust::open(&validity.trust, None)?;
        Ok(Self::for_ledger(
            key,
            identity,
            trust.origin(),
            validity.days,
        ))
    }

    /// The enrolment of a key that is valid from now on for so many days.
    pub(super) fn for_ledger(key: &KeyFile, identity: &Identity, origin: &str, days: u64) -> Self {
        let not_before_us = now_us().saturating_sub(SKEW_US);
        let not_after_us = not_before_us.saturating_add(days.saturating_mul(DAY_US));
        let proof = key.proof_of_possession(origin, identity);
        Self {
            identity: identity.to_text(),
            origin: origin.to_owned(),
            key_id: hex::encode(key.public().key_id().to_vec()),
            public_key: hex::encode(key.public().as_bytes()),
            not_before_us,
            not_after_us,
            proof_of_possession: hex::encode(proof),
        }
    }

    /// Reads an enrolment that must be for this ledger.
    pub(super) fn read(path: &Path, origin: &str) -> Result<Self, Failure> {
        let bytes = files::read(path, MAX_ENROLMENT_LEN)?;
        let bad = |what: String| configuration(&format!("{}: {what}", path.display()));
        let enrolment: Self = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("is not an enrolment: {error}")))?;
        if enrolment.origin != origin {
            return Err(bad(format!(
                "is for the ledger {}, not for {origin}; make another with `ledger-client key enrol`",
                enrolment.origin
            )));
        }
        Ok(enrolment)
    }

    /// Whose key it is.
    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        parse_identity(&self.identity)
    }

    /// As commands carry it.
    pub(super) fn message(&self) -> Result<v1::KeyEnrolment, Failure> {
        let digits = |text: &str| {
            hex::decode(text)
                .map_err(|_| configuration("the enrolment holds bad hexadecimal digits"))
        };
        Ok(v1::KeyEnrolment {
            key: Some(v1::PublicKey {
                algorithm: v1::KeyAlgorithm::Ed25519.into(),
                bytes: digits(&self.public_key)?,
                not_before_us: self.not_before_us,
                not_after_us: self.not_after_us,
            }),
            proof_of_possession: digits(&self.proof_of_possession)?,
        })
    }
}

/// An identity as people write it.
pub(super) fn parse_identity(text: &str) -> Result<Identity, Failure> {
    Identity::from_text(text).map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("`{text}` is no identity; write agent:ID, gateway:ID or operator:ID"),
        )
    })
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::New {
            identity,
            out: path,
            validity,
        } => {
            let identity = parse_identity(identity)?;
            // Before a key is made, everything that it needs is known to be there.
            Trust::open(&validity.trust, None)?;
            let key = KeyFile::create(path, &identity)?;
            print_json(out, &Enrolment::of(&key, &identity, validity)?)?;
            Ok(Exit::Done)
        }
        Command::Enrol { key, validity } => {
            let file = KeyFile::open(key)?;
            let identity = file.identity().cloned().ok_or_else(|| {
                configuration("the key file does not say whose key it is; put a line such as `identity: agent:ID` before the key")
            })?;
            print_json(out, &Enrolment::of(&file, &identity, validity)?)?;
            Ok(Exit::Done)
        }
        Command::Add { enrolment, by } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let enrolment = Enrolment::read(enrolment, client.origin())?;
            let body = Body::AddKey(v1::AddKey {
                identity: Some(enrolment.identity()?.to_message()),
                key: Some(enrolment.message()?),
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[("key_id", json!(enrolment.key_id))], json, out)
        }),
        Command::Retire { key_id, by } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let bytes = hex::decode(key_id).unwrap_or_default();
            let key_id = KeyId::from_slice(&bytes).map_err(|_| {
                Failure::new(
                    Exit::Usage,
                    "a key id has 32 hexadecimal digits; see `ledger-client key list`",
                )
            })?;
            let body = Body::RetireKey(v1::RetireKey {
                key_id: key_id.to_vec(),
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[], json, out)
        }),
        Command::List { identity, by } => block_on(list(identity, by, json, out)),
    }
}

async fn list(
    identity: &str,
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let identity = parse_identity(identity)?;
    let client = by.connection.open(Speaker::Any).await?;
    let message = v1::ListKeysRequest {
        identity: Some(identity.to_message()),
        page_size: 1_000,
        ..v1::ListKeysRequest::default()
    };
    let answer: v1::ListKeysResponse = client.read(paths::LIST_KEYS, message).await?;
    let keys = answer.keys.iter().map(|key| {
        let record = key.record.clone().unwrap_or_default();
        json!({
            "key_id": hex::encode(&key.key_id),
            "not_after_us": record.key.map_or(0, |key| key.not_after_us),
            "retired": record.retired_at_us != 0,
        })
    });
    let keys: Vec<_> = keys.collect();
    if json {
        print_json(out, &json!({ "keys": keys }))?;
    } else {
        for key in keys {
            let retired = key.get("retired") == Some(&Value::Bool(true));
            let not_after_us = key.get("not_after_us").and_then(Value::as_u64);
            let state = state(retired, not_after_us.unwrap_or_default(), now_us());
            writeln!(
                out,
                "{}  {state}",
                key.get("key_id")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            )?;
        }
    }
    Ok(Exit::Done)
}

/// What a key is good for by this machine's clock. Keys without an end have the end 0.
const fn state(retired: bool, not_after_us: u64, now_us: u64) -> &'static str {
    if retired {
        "retired"
    } else if not_after_us != 0 && not_after_us <= now_us {
        "expired"
    } else {
        "active"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_has_ended_is_not_shown_as_active() {
        assert_eq!(state(false, 0, 5), "active");
        assert_eq!(state(false, 6, 5), "active");
        assert_eq!(state(false, 5, 5), "expired");
        assert_eq!(state(true, 5, 5), "retired");
    }
}
