//! P4, provable offline: every receipt is signed and proves its entry, and every node proves every entry to a checkpoint that a
//! quorum cosigned.

use ledger_core::evidence::{EvidenceError, verify_receipt};
use ledger_core::note::verify::CheckpointVerifyError;
use ledger_proto::v1;

use super::Case;

/// Receipts and entries that the trust policy does not accept.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for (_, answer) in case.history.answers() {
        if let Some(what) = provisional(case, &answer.receipt) {
            let (node, index) = (answer.node, answer.index());
            findings.push(format!(
                "the receipt of node {node} for entry {index}: {what}"
            ));
        }
    }
    for ledger in &case.ledgers {
        for (index, entry) in (0..).zip(&ledger.entries) {
            let receipt = v1::Receipt {
                entry: Some(entry.clone()),
                checkpoint: ledger.checkpoint.clone(),
                level: v1::ReceiptLevel::Cosigned.into(),
            };
            let what = match verify_receipt(&receipt, &case.policy) {
                Ok(_) if entry.index == index => continue,
                Ok(_) => format!("it says that it is entry {}", entry.index),
                Err(error) => error.to_string(),
            };
            findings.push(format!("entry {index} of node {}: {what}", ledger.node));
        }
    }
    findings
}

/// What is wrong with a receipt that need not be cosigned yet.
fn provisional(case: &Case, receipt: &v1::Receipt) -> Option<String> {
    match verify_receipt(receipt, &case.policy) {
        Ok(_) => None,
        // The log's signature holds. That its tree is a beginning of the ledger's is for P3 to find, and that its entry is
        // in the ledger for P1; its path is checked here all the same.
        Err(EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. })) => {
            path_fails(case, receipt)
        }
        Err(error) => Some(error.to_string()),
    }
}

fn path_fails(case: &Case, receipt: &v1::Receipt) -> Option<String> {
    use ledger_core::hash::{Hash, LeafIndex};
    let seen = crate::cluster::history::Seen::of_note(0, 0, &receipt.checkpoint);
    let entry = receipt.entry.as_ref()?;
    let path: Option<Vec<Hash>> = entry
        .path
        .iter()
        .map(|hash| Hash::from_slice(hash))
        .collect();
    let Some(path) = path else {
        return Some("its path holds something that is not a hash".to_owned());
    };
    ledger_core::tree::verify::verify_inclusion(
        case.tree_hash,
        &case.tree_hash.leaf(&entry.entry),
        LeafIndex(entry.index),
        seen.size,
        &path,
        &seen.root,
    )
    .err()
    .map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::test_case::{assert_finds, case};
    use super::*;

    #[test]
    fn a_receipt_with_a_wrong_path_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        let answer = case.history.calls[0].answer.as_mut().expect("an answer");
        answer.receipt.entry.as_mut().expect("an entry").path.pop();
        assert_finds(&judge(&case), "the receipt of node");
    }

    #[test]
    fn a_ledger_without_a_quorum_is_found() {
        let mut case = case();
        let lines: Vec<&str> = case.ledgers[0].checkpoint.lines().collect();
        // Of three cosignatures one stays.
        let kept = lines.len() - 2;
        case.ledgers[0].checkpoint = lines[..kept].join("\n") + "\n";
        assert_finds(&judge(&case), "entry 0 of node 1");
    }
}
