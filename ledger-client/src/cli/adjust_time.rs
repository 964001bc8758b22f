//! `ledger-client cluster adjust-time`: what admins say when the ledger's time is ahead of all clocks.
//!
//! The command names the end of the ledger as a node tells it. Were that untrue, it would name another end than the ledger has, and
//! change nothing. How far the ledger is ahead follows from that end and from when the command was signed.

use std::cmp::Reverse;
use std::io::Write;

use ledger_core::evidence::utc;
use ledger_core::limits::MIN_TIME_ADJUSTMENT_US;
use ledger_proto::v1::{self, command::Body, entry, governance::Detail};
use serde_json::json;

use super::connection::{Speaker, configuration};
use super::governing::{Governing, print_applied};
use super::{Exit, Failure};
use crate::client::{Client, Submitted};
use crate::error::Error;
use crate::paths;
use crate::signing::now_us;

pub(super) async fn run(by: &Governing, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut ends = Vec::new();
    let mut failed = None;
    for (_, client) in by.connection.each(Speaker::Operator)? {
        match end_of(&client).await {
            Ok(end) => ends.push((end, client)),
            Err(error) => failed = Some(Failure::from(error)),
        }
    }
    // One whose clock was right may have refused the last entries, and one that lies may name any end.
    ends.sort_by_key(|(end, _)| Reverse(end.tree_size));
    for (end, client) in ends {
        match adjust(&client, &end, by).await {
            Ok(done) => return print(&done, json, out),
            Err(failure) => failed = Some(failure),
        }
    }
    Err(failed.unwrap_or_else(|| configuration("there is no endpoint to ask")))
}

/// The end of the ledger as a node tells it.
async fn end_of(client: &Client) -> Result<v1::GetNodeStatusResponse, Error> {
    client.check().await?;
    let message = v1::GetNodeStatusRequest {};
    client.read(paths::GET_NODE_STATUS, message).await
}

/// Adjusts the time of the ledger that ends so. It is brought to the node that said so: of one that does not, it is refused.
async fn adjust(
    client: &Client,
    end: &v1::GetNodeStatusResponse,
    by: &Governing,
) -> Result<Submitted, Failure> {
    let (now_us, last_us) = (now_us(), end.last_entry_time_us);
    let least = end.time_offset_us.saturating_add(MIN_TIME_ADJUSTMENT_US);
    if last_us.saturating_sub(now_us) < least {
        let in_ledger = now_us.saturating_add(end.time_offset_us);
        let what = format!(
            "the ledger's time is not ahead: its last entry is of {}, and by this machine's clock it is {} in the ledger; nothing is to be adjusted",
            utc(last_us),
            utc(in_ledger)
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    let body = Body::AdjustTime(v1::AdjustTime {
        tree_size: end.tree_size,
        last_entry_time_us: last_us,
    });
    Ok(client.govern(body, by.reason()).await?)
}

fn print(done: &Submitted, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let offset_us = match &done.proven.entry.body {
        Some(entry::Body::Governance(v1::Governance {
            detail: Some(Detail::TimeAdjustment(adjusted)),
            ..
        })) => adjusted.time_offset_us,
        _ => 0,
    };
    let more = [("time_offset_us", json!(offset_us))];
    let exit = print_applied(done, &more, json, out)?;
    // For people, not for scripts.
    let _ = writeln!(std::io::stderr(), "{}", in_words(offset_us));
    Ok(exit)
}

/// How far the ledger's time is ahead of clocks; empty if it is not.
pub(super) fn in_words(offset_us: u64) -> String {
    if offset_us == 0 {
        return String::new();
    }
    let (hours, minutes, seconds) = (
        offset_us / 3_600_000_000,
        offset_us / 60_000_000 % 60,
        offset_us / 1_000_000 % 60,
    );
    format!(
        "the ledger's time is {hours} h {minutes} min {seconds} s ahead of clocks, as admins have said"
    )
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn an_offset_is_told_as_people_read_it() {
        assert_eq!(in_words(0), "");
        let told = in_words(90_061_500_000);
        assert!(told.contains("25 h 1 min 1 s ahead"), "{told}");
    }
}
