//! `ledger-client follow`: entries as they come, each proven before it is shown.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use ledger_proto::v1;

use super::connection::{Connection, Speaker, block_on};
use super::entry::{Filter, prove};
use super::entry_json::as_json;
use super::show::printable;
use super::{Exit, Failure};
use crate::error::Error;
use crate::paths;
use crate::transport::Answer;

/// How long a stream must last that shows nothing and is none of those that break off again and again: longer than nodes are silent.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Follow {
    /// The first entry to show. Default: those that come from now on.
    #[arg(long, value_name = "INDEX")]
    start: Option<u64>,
    /// End after so many entries.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    connection: Connection,
}

/// Ends after `--count` entries, or when it is interrupted; a stream that breaks off is taken up again where it was.
pub(super) fn follow(follow: &Follow, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    block_on(async {
        let client = follow.connection.open(Speaker::Any).await?;
        let mut next = match follow.start {
            Some(start) => start,
            None => client.checkpoint(0).await?.1.size().0,
        };
        let mut left = follow.count.unwrap_or(u64::MAX);
        let filter = follow.filter.message()?;
        let mut broken = 0;
        if left == 0 {
            return Ok(Exit::Done);
        }
        loop {
            let message = v1::FollowRequest {
                start_index: next,
                filter: Some(filter.clone()),
                receipt_level: client.level(),
            };
            let stream = client.read_stream(paths::FOLLOW, message, client.deadline());
            let Answer {
                answer: mut parts,
                by,
            }: Answer<tonic::Streaming<v1::FollowResponse>> = stream.await?;
            let (begin, opened) = (next, Instant::now());
            while let Ok(Some(part)) = parts.message().await {
                for proven in part.entries {
                    let entry = prove(&client, proven, &part.checkpoint);
                    let entry = entry.map_err(|error| error.of(&by))?;
                    if entry.index < next {
                        let what = format!("entry {} was shown before", entry.index);
                        return Err(Error::contradiction(what).of(&by).into());
                    }
                    next = entry.index.saturating_add(1);
                    let value = as_json(&entry);
                    if json {
                        serde_json::to_writer(&mut *out, &value).map_err(std::io::Error::from)?;
                        writeln!(out)?;
                    } else {
                        writeln!(out, "{}", line(&value))?;
                    }
                    // Whoever reads along sees each entry when it is there.
                    out.flush()?;
                    left -= 1;
                    if left == 0 {
                        return Ok(Exit::Done);
                    }
                }
                next = part.next_index.max(next);
            }
            // A stream that leads nowhere is not taken up for ever.
            let was_of_use = next > begin || opened.elapsed() >= STEADY;
            broken = if was_of_use { 1 } else { broken + 1 };
            if broken > 5 {
                let what =
                    format!("the stream of entries broke off again and again at entry {next}");
                return Err(Error::Unavailable(what).into());
            }
        }
    })
}

/// One entry on one line.
fn line(value: &serde_json::Value) -> String {
    let names = [
        "index", "time", "kind", "agent", "action", "verdict", "reason", "rules",
    ];
    let cells = names.iter().map(|name| match value.get(name) {
        None | Some(serde_json::Value::Null) => "-".to_owned(),
        Some(serde_json::Value::String(text)) => printable(text),
        Some(other) => printable(&other.to_string()),
    });
    cells.collect::<Vec<_>>().join("  ")
}
