//! P1, the decision is the commit: whatever was answered is in the ledger of every node, at its index, byte by byte.

use super::Case;

/// Answers that a node's ledger does not hold as they were given.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for (call, answer) in case.history.answers() {
        for ledger in &case.ledgers {
            let index = answer.index();
            let what = match ledger.bytes(index) {
                None => "does not have it",
                Some(bytes) if bytes != answer.bytes() => "has another one",
                Some(_) => continue,
            };
            findings.push(format!(
                "request {} was answered by node {} with entry {index}; node {} {what}",
                hex::encode(&call.request_id),
                answer.node,
                ledger.node
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::test_case::{assert_finds, case};
    use super::judge;

    #[test]
    fn a_lost_answer_is_found() {
        let mut case = case();
        assert!(judge(&case).is_empty());
        let ledger = &mut case.ledgers[1];
        ledger.entries.pop();
        assert_finds(&judge(&case), "node 2 does not have it");
    }

    #[test]
    fn a_changed_answer_is_found() {
        let mut case = case();
        let index = case.history.answered().next().expect("an answer").1.index();
        let index = usize::try_from(index.0).expect("small");
        case.ledgers[0].entries[index].entry.push(0);
        assert_finds(&judge(&case), "node 1 has another one");
    }
}
