//! P3, append-only: every checkpoint that anybody ever saw is of a beginning of every node's ledger, and no node shows a smaller
//! tree than one it has shown.

use std::collections::BTreeMap;

use ledger_core::hash::TreeSize;

use super::Case;

/// Checkpoints that are not of what the nodes tell now.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut seen = case.history.seen();
    seen.sort_by_key(|seen| seen.at);
    let sizes: Vec<TreeSize> = seen.iter().map(|seen| seen.size).collect();
    let mut findings = Vec::new();
    for ledger in &case.ledgers {
        let roots = ledger.roots(case.tree_hash, &sizes);
        for seen in &seen {
            let (node, size, by) = (ledger.node, seen.size, seen.node);
            match roots.get(&size.0) {
                None => findings.push(format!(
                    "node {by} showed a tree of {size}; node {node} has fewer entries"
                )),
                Some(root) if *root != seen.root => findings.push(format!(
                    "node {by} showed the root {} of size {size}; from the entries of node {node} it is {root}",
                    seen.root
                )),
                Some(_) => {}
            }
        }
    }
    let mut shown: BTreeMap<u64, TreeSize> = BTreeMap::new();
    for one in &case.history.checkpoints {
        let largest = shown.entry(one.node).or_insert(one.size);
        if one.size < *largest {
            let (node, size) = (one.node, one.size);
            findings.push(format!(
                "node {node} showed a tree of {size} after one of {largest}"
            ));
        }
        *largest = one.size.max(*largest);
    }
    findings
}

#[cfg(test)]
mod tests {
    use ledger_core::hash::Hash;

    use super::super::test_case::{assert_finds, case};
    use super::*;

    #[test]
    fn a_fork_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        case.history.checkpoints[0].root = Hash::from_slice(&[7; 32]).expect("32 bytes");
        assert_finds(&judge(&case), "showed the root 07");
    }

    #[test]
    fn a_truncated_ledger_is_found() {
        let mut case = case();
        let last = case.history.checkpoints.last_mut().expect("a checkpoint");
        last.size = TreeSize(last.size.0 + 1);
        assert_finds(&judge(&case), "has fewer entries");
    }

    #[test]
    fn a_tree_that_shrinks_is_found() {
        let mut case = case();
        case.history.checkpoints.reverse();
        assert_finds(&judge(&case), "after one of");
    }
}
