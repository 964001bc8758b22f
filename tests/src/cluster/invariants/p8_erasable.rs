//! P8, erasable: what requests say about people and content is in no leaf, so that erasing it touches no proof.

use super::{Case, holds};
use crate::cluster::load::SECRET;

/// Entries that hold what belongs into a compartment.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    for ledger in &case.ledgers {
        for proven in &ledger.entries {
            if holds(&proven.entry, SECRET.as_bytes()) {
                let (node, index) = (ledger.node, proven.index);
                findings.push(format!(
                    "node {node}: entry {index} holds a request's content"
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
    fn content_in_a_leaf_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        case.ledgers[1].entries[5]
            .entry
            .extend_from_slice(SECRET.as_bytes());
        assert_finds(&judge(&case), "node 2: entry 5 holds");
    }
}
