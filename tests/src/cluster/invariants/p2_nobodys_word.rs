//! P2, nobody's word is taken: all nodes have the same entries, and a machine that never saw the cluster makes the same ones
//! from the signed commands alone.

use ledger_core::machine::{self, Applied, Machine, SignatureChecks};
use ledger_core::state::{MemoryState, Txn};
use ledger_proto::v1;
use prost::Message as _;

use super::Case;
use crate::cluster::history::Ledger;

/// Entries that differ between nodes, or that an independent machine does not make.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let Some(longest) = case
        .ledgers
        .iter()
        .max_by_key(|ledger| ledger.entries.len())
    else {
        return vec!["no node tells its ledger".to_owned()];
    };
    // Replaying one of them says something about all only if they are the same.
    let mut findings: Vec<String> = case
        .ledgers
        .iter()
        .filter_map(|ledger| differs(longest, ledger))
        .collect();
    if findings.is_empty() {
        findings.extend(replay(case, longest));
    }
    findings
}

fn differs(longest: &Ledger, ledger: &Ledger) -> Option<String> {
    let pairs = longest.entries.iter().zip(&ledger.entries);
    let different = pairs
        .into_iter()
        .find(|(one, other)| one.entry != other.entry)?;
    Some(format!(
        "nodes {} and {} have different entries {}",
        longest.node, ledger.node, different.0.index
    ))
}

/// The first entry that a machine of our own makes otherwise.
fn replay(case: &Case, ledger: &Ledger) -> Option<String> {
    let mut entries = ledger.decoded();
    let Some(v1::entry::Body::Genesis(genesis)) = entries.next().and_then(|entry| entry.body)
    else {
        return Some(format!(
            "node {} does not begin with a genesis",
            ledger.node
        ));
    };
    let machine = Machine::new();
    let mut state = MemoryState::new();
    let mut txn = Txn::new(&state);
    machine::genesis(&mut txn, &genesis).expect("the genesis was valid when the cluster began");
    let writes = txn.into_writes();
    state.commit(writes);
    for entry in entries {
        let signed = entry.signed.clone().unwrap_or_default();
        let command = v1::Command::decode(signed.command.as_slice()).unwrap_or_default();
        // Content travels beside the command; whoever sent it still has it. Nodes' own commands have none. What was taken off on
        // the way was not kept, and the entry says so.
        let sent = case.sent.get(&command.request_id);
        let came = |content: &&v1::Compartment| entry.stored().any(|kind| kind == content.kind());
        let submission = v1::Submission {
            signed: Some(signed),
            compartments: sent
                .map(|sent| sent.compartments.iter().filter(came).cloned().collect())
                .unwrap_or_default(),
        };
        let tip = machine::tip(&state).expect("the state is sound");
        let clock_us = tip.batch_clock_us(&entry);
        let mut txn = Txn::new(&state);
        let applied = machine
            .apply(&mut txn, clock_us, &submission, &SignatureChecks::default())
            .expect("the state is sound");
        let index = entry.index;
        match applied {
            Applied::Appended(appended) if appended.entry == entry => {}
            Applied::Appended(appended) => {
                return Some(format!(
                    "entry {index} is {:?}; replayed it is {:?}",
                    entry.body, appended.entry.body
                ));
            }
            other => {
                return Some(format!(
                    "entry {index} is none when replayed, but {other:?}"
                ));
            }
        }
        let writes = txn.into_writes();
        state.commit(writes);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::test_case::{assert_finds, case};
    use super::*;

    #[test]
    fn another_entry_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        case.ledgers[2].entries[3].entry.push(0);
        assert_finds(&judge(&case), "different entries 3");
    }

    #[test]
    fn a_decision_that_no_rule_made_is_found() {
        let mut case = case();
        let index = case.history.answered().next().expect("an answer").1.index();
        for ledger in &mut case.ledgers {
            let proven = &mut ledger.entries[usize::try_from(index.0).expect("small")];
            let mut entry = ledger_core::entry::decode(&proven.entry).expect("an entry");
            let Some(v1::entry::Body::Decision(decision)) = &mut entry.body else {
                panic!("answers are decisions");
            };
            decision.set_verdict(v1::Verdict::Deny);
            proven.entry = entry.encode_to_vec();
        }
        assert_finds(&judge(&case), "replayed it is");
    }
}
