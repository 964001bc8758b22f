//! `ledger-client audit`: the whole ledger, read from its first entry on and made again.

mod reader;
mod times;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger_core::audit::Sound;
use ledger_proto::v1::{self, entry::Body};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on_or};
use super::{Exit, Failure, print_json};
pub(super) use reader::{Read, every_entry, progress};
pub(super) use times::TimeAudit;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Ask the rules again about every decision whose arguments are not erased.
    #[arg(long)]
    replay: bool,
    /// Compare the entries and their times with this cosigned checkpoint too, beside those that the node keeps; may be repeated.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// What was read.
#[derive(Debug, Default)]
struct Count {
    decisions: u64,
    believed: u64,
    outcomes: u64,
    drifted: u64,
    sessions: u64,
    signatures: u64,
}

pub(super) fn audit(audit: &Audit, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bar = progress();
    let work = async {
        let client = audit.connection.open(Speaker::Any).await?;
        let count = Count::default();
        let add = |count: &mut Count, entry: &v1::Entry, _: Vec<v1::Compartment>, sound: Sound| {
            add(count, entry, sound.believed);
        };
        let times = TimeAudit::open(&client, &audit.checkpoints).await?;
        every_entry(&client, audit.replay, &bar, times, count, add).await
    };
    let read = block_on_or(work, || {
        format!(
            "interrupted; the first {} entries are sound",
            bar.position()
        )
    })?;
    if let Some(failure) = read.times.unproven_file() {
        return Err(failure);
    }
    show(&read, audit.replay, json, out)?;
    if read.times.is_impossible() {
        return Err(read.times.failure());
    }
    Ok(Exit::Done)
}

fn show(read: &Read<Count>, replay: bool, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Read {
        checkpoint,
        times,
        seen: count,
    } = read;
    let asked_again = if replay {
        count.decisions.saturating_sub(count.believed)
    } else {
        0
    };
    let size = checkpoint.size().0;
    if json {
        let value = json!({
            "origin": checkpoint.origin(),
            "entries": size,
            "root": checkpoint.root().to_string(),
            "signatures": count.signatures,
            "decisions": count.decisions,
            "re_evaluated": asked_again,
            "not_re_evaluated": count.decisions.saturating_sub(asked_again),
            "outcomes": count.outcomes,
            "drifted": count.drifted,
            "sessions": count.sessions,
            "times": times.to_json(),
            "sound": !times.is_impossible(),
        });
        return print_json(out, &value);
    }
    let verdict = if times.is_impossible() {
        "not sound"
    } else {
        "sound"
    };
    writeln!(
        out,
        "{verdict:15} {size} entries of {}",
        checkpoint.origin()
    )?;
    writeln!(out, "root            {}, cosigned", checkpoint.root())?;
    writeln!(out, "signatures      {}", count.signatures)?;
    if replay {
        let erased = count.decisions.saturating_sub(asked_again);
        writeln!(
            out,
            "decisions       {}: {asked_again} evaluated again with the same result, {erased} not: erased",
            count.decisions
        )?;
    } else {
        writeln!(
            out,
            "decisions       {}; `--replay` evaluates them again",
            count.decisions
        )?;
    }
    writeln!(
        out,
        "outcomes        {}, {} with drift",
        count.outcomes, count.drifted
    )?;
    writeln!(
        out,
        "sessions        {}, their chains unbroken",
        count.sessions
    )?;
    times.write(out)?;
    Ok(())
}

fn add(count: &mut Count, entry: &v1::Entry, believed: bool) {
    let signed = entry.signed.as_ref();
    let signatures = signed.map_or(0, |signed| signed.signatures.len());
    count.signatures += u64::try_from(signatures).unwrap_or(u64::MAX);
    match &entry.body {
        Some(Body::Decision(_)) => {
            count.decisions += 1;
            count.believed += u64::from(believed);
        }
        Some(Body::Outcome(outcome)) => {
            count.outcomes += 1;
            count.drifted += u64::from(!outcome.drift.is_empty());
        }
        Some(Body::SessionOpening(opening)) => {
            count.sessions += u64::from(opening.result() == v1::Result::Applied);
        }
        Some(
            Body::SessionEnd(_) | Body::Redemption(_) | Body::Governance(_) | Body::Genesis(_),
        )
        | None => {}
    }
}
