//! `ledger-client verify`: what an auditor does with a file and a trust policy, and nothing else.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger_core::evidence::{self, EvidenceError, MAX_EVIDENCE_LEN};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::CheckpointVerifyError;

use super::{Exit, Failure, print_json, read_file};

/// Longest trust policy file in bytes.
const MAX_TRUST_LEN: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The evidence, binary or JSON.
    evidence: PathBuf,
    /// The trust policy: a C2SP tlog-policy file, obtained from somebody you trust and not from whoever gave you the evidence.
    #[arg(long, env = "COUNTERSIGN_TRUST")]
    trust: PathBuf,
}

pub(super) fn run(arguments: &Arguments, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let trust = read_file(&arguments.trust, MAX_TRUST_LEN, Exit::Configuration)?;
    let trust = TlogPolicy::parse(&trust).map_err(|error| {
        Failure::new(
            Exit::Configuration,
            format!("{}: {error}", arguments.trust.display()),
        )
    })?;
    let file = read_file(&arguments.evidence, 2 * MAX_EVIDENCE_LEN, Exit::Evidence)?;
    let decoded = match std::str::from_utf8(&file) {
        Ok(text) if text.trim_start().starts_with('{') => evidence::from_json(text),
        _ => evidence::decode(&file),
    };
    let failed = |exit, error: &dyn std::fmt::Display| {
        Failure::new(
            exit,
            format!("{}: not proven: {error}", arguments.evidence.display()),
        )
    };
    let decoded = decoded.map_err(|error| failed(Exit::Evidence, &error))?;
    let report =
        evidence::verify(&decoded, &trust).map_err(|error| failed(exit_of(&error), &error))?;
    if json {
        print_json(out, &report)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(Exit::Done)
}

pub(super) fn exit_of(error: &EvidenceError) -> Exit {
    match error {
        EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. }) => Exit::Quorum,
        EvidenceError::Checkpoint(_) | EvidenceError::Signature { .. } => Exit::Signature,
        EvidenceError::Inclusion { .. } | EvidenceError::PathShape { .. } => Exit::Inclusion,
        EvidenceError::Origin
        | EvidenceError::Entry { .. }
        | EvidenceError::Order
        | EvidenceError::Missing { .. }
        | EvidenceError::Contradiction { .. }
        | EvidenceError::Compartment { .. } => Exit::Evidence,
    }
}
