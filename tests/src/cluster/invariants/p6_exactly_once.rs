//! P6, exactly once: a request id names at most one entry, whoever asks again gets that one, and a permit is redeemed once.

use std::collections::BTreeMap;

use ledger_proto::v1::{self, command, entry};

use super::Case;

/// Request ids with two entries, decisions with two redemptions, and repeated calls with another answer.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for ledger in &case.ledgers {
        let mut seen = BTreeMap::new();
        let mut redeemed = BTreeMap::new();
        for (entry, command) in ledger.commands() {
            let author = command.author.clone().map(|author| format!("{author:?}"));
            if let Some(decision) = redeemed_decision(&entry, &command)
                && let Some(before) = redeemed.insert(decision, entry.index)
            {
                findings.push(format!(
                    "entries {before} and {} of node {} both redeem decision {decision}",
                    entry.index, ledger.node
                ));
            }
            let before = seen.insert((author, command.request_id.clone()), entry.index);
            if let Some(before) = before {
                findings.push(format!(
                    "request {} is entry {before} and entry {} of node {}",
                    hex::encode(&command.request_id),
                    entry.index,
                    ledger.node
                ));
            }
        }
    }
    for (call, first) in case.history.answered() {
        for again in &call.again {
            // Whether it says that it was repeated is not judged: a replica that has not applied the entry yet when the
            // same bytes come to it meets them for the first time.
            if again.bytes() != first.bytes() || again.index() != first.index() {
                let id = hex::encode(&call.request_id);
                findings.push(format!(
                    "request {id} was answered otherwise when it was repeated"
                ));
            }
        }
    }
    findings
}

/// The decision whose permit an entry redeemed, if it redeemed one.
fn redeemed_decision(entry: &v1::Entry, command: &v1::Command) -> Option<u64> {
    match (&entry.body, &command.body) {
        (Some(entry::Body::Redemption(redemption)), Some(command::Body::Redeem(ask))) => {
            let won = redemption.reason() == v1::RedemptionReason::Redeemed;
            won.then_some(ask.decision_index)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::test_case::{assert_finds, case};
    use super::*;

    #[test]
    fn a_second_entry_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        let last = case.ledgers[0].entries.last().expect("entries").clone();
        case.ledgers[0].entries.push(last);
        assert_finds(&judge(&case), "of node 1");
    }

    #[test]
    fn a_second_redemption_is_found() {
        let redemption = |request: u8, reason: v1::RedemptionReason| {
            let redeem = v1::Redeem {
                decision_index: 1,
                input_digest: vec![7; 32],
            };
            let command = v1::Command {
                request_id: vec![request; 16],
                body: Some(command::Body::Redeem(redeem)),
                ..v1::Command::default()
            };
            let entry = v1::Entry {
                index: u64::from(request),
                signed: Some(v1::SignedCommand {
                    command: command.encode_to_vec(),
                    signatures: Vec::new(),
                }),
                body: Some(entry::Body::Redemption(v1::Redemption {
                    reason: reason.into(),
                    ..v1::Redemption::default()
                })),
                ..v1::Entry::default()
            };
            v1::ProvenEntry {
                index: entry.index,
                entry: entry.encode_to_vec(),
                path: Vec::new(),
            }
        };
        let mut case = case();
        let won = v1::RedemptionReason::Redeemed;
        let lost = v1::RedemptionReason::AlreadyRedeemed;
        let entries = &mut case.ledgers[0].entries;
        entries.extend([redemption(101, won), redemption(102, lost)]);
        assert_eq!(judge(&case), Vec::<String>::new());
        case.ledgers[0].entries.push(redemption(103, won));
        assert_finds(&judge(&case), "both redeem decision 1");
    }

    #[test]
    fn another_answer_to_the_same_bytes_is_found() {
        let mut case = case();
        let other = case.history.calls[1].answer.clone().expect("an answer");
        let call = &mut case.history.calls[0];
        call.again.extend(call.answer.clone());
        assert_eq!(judge(&case), Vec::<String>::new());
        case.history.calls[0].again.push(other);
        assert_finds(&judge(&case), "answered otherwise");
    }
}
