//! Parts of the node depend one way, as ARCHITECTURE lists them: whoever reads a part needs only those before it.

use super::tree::{TextFile, text_files};
use super::{assert_finds, assert_none};

const SOURCES: &str = "ledger-node/src/";

/// The modules of the node from the disk up. One that is in a group with another may use it and be used by it.
const ORDER: &[&[&str]] = &[
    &["clock", "keyfile", "config", "logging", "genesis_file"],
    &["worker", "fatal", "failure", "limits", "seldom"],
    &["transport"],
    &["storage", "index"],
    // openraft's state machine hands entries to the applier, and the applier writes where the log ends.
    &["raft", "apply"],
    &["reads"],
    &["submit"],
    &["cosign"],
    &["ledger", "leadership"],
    &["front", "peer"],
    &["fsck"],
    &["node"],
    &["cli"],
];

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|group| group.contains(&module))
}

/// Uses of a module that comes later. Tests may use all.
fn backward(file: &TextFile) -> Vec<String> {
    let Some(inside) = file.path.strip_prefix(SOURCES) else {
        return Vec::new();
    };
    let is_test = ["tests.rs", "conformance.rs", "test_"]
        .iter()
        .any(|name| inside.contains(name));
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    if is_test || ["lib", "main"].contains(&module) {
        return Vec::new();
    }
    let Some(here) = place(module) else {
        return vec![format!(
            "{}: its module is not in the list of tidy",
            file.path
        )];
    };
    let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
    let used = code.split("crate::").skip(1).filter_map(|rest| {
        let end = rest.find(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))?;
        rest.get(..end)
    });
    used.filter(|other| place(other).is_some_and(|there| there > here))
        .map(|other| {
            format!(
                "{}: uses `{other}`, which comes after `{module}`; move what both need down, or the user up",
                file.path
            )
        })
        .collect()
}

#[test]
fn parts_of_the_node_use_only_those_before_them() {
    let findings: Vec<String> = text_files().iter().flat_map(backward).collect();
    assert_none(&findings);
    let bad = TextFile::sample(
        "ledger-node/src/storage/view.rs",
        "use crate::raft::Raft;\n",
    );
    assert_finds(&backward(&bad), "uses `raft`, which comes after `storage`");
    let unknown = TextFile::sample("ledger-node/src/drawer.rs", "");
    assert_finds(&backward(&unknown), "not in the list");
}
