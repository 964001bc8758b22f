//! Whether entries were dated as sound clocks allow, and whether sessions were ended early.

use std::collections::BTreeMap;

use ledger_proto::v1::{self, command::Body};

use super::probe::Stamp;
use crate::cluster::history::Ledger;

/// How far the clock of a leader may be off, in microseconds.
const MAX_OFFSET_US: u64 = 2_000_000;
/// Most findings that are shown of a kind.
const SHOWN: usize = 3;

/// What the answers say: each entry's time is that of a sound clock between question and answer, but for 2 s.
pub(super) fn answers(stamps: &[Stamp]) -> Vec<String> {
    let mut findings = Vec::new();
    for stamp in stamps {
        let (index, time) = (stamp.index, stamp.time_us);
        let (sent, answered) = (stamp.sent_us, stamp.answered_us);
        if time > answered + MAX_OFFSET_US {
            let by = time - answered;
            findings.push(format!(
                "entry {index} is dated {by} µs after the true time at which its answer was there"
            ));
        }
        if time + MAX_OFFSET_US < sent {
            let by = sent - time;
            findings.push(format!(
                "entry {index} is dated {by} µs before the true time at which its question was asked"
            ));
        }
        if stamp.is_expired {
            findings.push(format!("entry {index} says that its session is over"));
        }
    }
    shorten(findings)
}

/// What a node's whole ledger says, nodes' own entries included: times go up, none is later than the answer to a later entry
/// allows or than now, and no session was sealed before its end.
pub(super) fn ledger(ledger: &Ledger, stamps: &[Stamp], now_us: u64) -> Vec<String> {
    let mut findings = Vec::new();
    let answered: BTreeMap<u64, u64> = stamps
        .iter()
        .map(|stamp| (stamp.index, stamp.answered_us))
        .collect();
    let mut expiry: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut before = 0;
    for entry in ledger.decoded() {
        let (index, time) = (entry.index, entry.time_us);
        if time <= before {
            findings.push(format!("entry {index} is not after the one before it"));
        }
        before = time;
        let next = answered.range(index..).map(|(_, answered)| *answered).min();
        let by = next.unwrap_or(now_us).min(now_us);
        if time > by + MAX_OFFSET_US {
            findings.push(format!(
                "entry {index} is dated {} µs after the true time by which it was there",
                time - by
            ));
        }
        if let Some((sealed, until)) = sealed(&entry, &mut expiry)
            && until > by
        {
            findings.push(format!(
                "entry {index} seals session {}, which lasts {} µs longer",
                hex::encode(sealed),
                until - by
            ));
        }
    }
    shorten(findings)
}

/// Which session an entry seals, and until when it lasts. Remembers the sessions that entries open.
fn sealed(entry: &v1::Entry, expiry: &mut BTreeMap<Vec<u8>, u64>) -> Option<(Vec<u8>, u64)> {
    let command = ledger_core::entry::command(entry).expect("a command decodes")?;
    match command.body? {
        Body::OpenSession(opening) => {
            let session = crate::kit::session_of_entry(entry).to_vec();
            let lasts_us = u64::from(opening.ttl_s) * 1_000_000;
            expiry.insert(session, entry.time_us + lasts_us);
            None
        }
        Body::Seal(seal) => {
            let until = expiry.get(&seal.session_id).copied().unwrap_or(u64::MAX);
            Some((seal.session_id, until))
        }
        _ => None,
    }
}

fn shorten(mut findings: Vec<String>) -> Vec<String> {
    let more = findings.len().saturating_sub(SHOWN);
    findings.truncate(SHOWN);
    if more > 0 {
        findings.push(format!("and {more} more like these"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::SECOND;

    const NOW: u64 = 1_796_040_000_000_000;

    fn stamp(time_us: u64) -> Stamp {
        Stamp {
            index: 7,
            time_us,
            sent_us: NOW,
            answered_us: NOW + SECOND,
            is_expired: false,
        }
    }

    #[test]
    fn two_seconds_are_allowed_and_no_more() {
        for (time, is_sound) in [
            (NOW, true),
            (NOW - 2 * SECOND, true),
            (NOW + 3 * SECOND, true),
            (NOW + 3 * SECOND + 1, false),
            (NOW - 2 * SECOND - 1, false),
        ] {
            assert_eq!(answers(&[stamp(time)]).is_empty(), is_sound, "{time}");
        }
        let expired = Stamp {
            is_expired: true,
            ..stamp(NOW)
        };
        assert_eq!(answers(&[expired]).len(), 1);
    }
}
