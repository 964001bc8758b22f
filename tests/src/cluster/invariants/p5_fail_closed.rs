//! P5, fail closed: a node that cannot reach a majority decides nothing.

use super::Case;

/// Decisions that a node gave while it was cut off.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for isolation in &case.history.isolations {
        for (call, answer) in case.history.answered() {
            // The entry of an earlier call may be told again: the majority has decided it. So may one that was on its way
            // when the cut came.
            let inside = isolation.from < call.last_start && call.end < isolation.until;
            if inside && call.failures == 0 && answer.node == isolation.node && !answer.replayed {
                findings.push(format!(
                    "node {} decided request {} while it was cut off",
                    answer.node,
                    hex::encode(&call.request_id)
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
    use crate::cluster::history::Isolation;

    #[test]
    fn a_decision_of_a_minority_is_found() {
        let mut case = case();
        let call = &case.history.calls[0];
        let node = call.answer.as_ref().expect("an answer").node;
        let cut = Isolation {
            node,
            from: call.start - 1,
            until: call.end + 1,
        };
        case.history.isolations = vec![Isolation {
            node: node + 1,
            ..cut
        }];
        assert_eq!(judge(&case), Vec::<String>::new());
        case.history.isolations = vec![cut];
        assert_finds(&judge(&case), "while it was cut off");
    }
}
