//! P6, exactly once: a request id names at most one entry, and whoever asks again gets that one.

use std::collections::BTreeMap;

use super::Case;

/// Request ids with two entries, and repeated calls with another answer.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for ledger in &case.ledgers {
        let mut seen = BTreeMap::new();
        for (entry, command) in ledger.commands() {
            let author = command.author.clone().map(|author| format!("{author:?}"));
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

#[cfg(test)]
mod tests {
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
