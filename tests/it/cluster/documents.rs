//! The commands of the page for operators, run as they stand there.

use countersign_tests::cluster::documents::{Shell, commands};

#[test]
fn what_operators_are_told_to_type_works() {
    let page = include_str!("../../../docs/operations.md");
    let commands = commands(page);
    assert!(
        commands.len() > 15,
        "the page has its commands: {commands:?}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (_shell, written) = Shell::must_run(&commands, folder.path());
    assert!(written.contains("ledger-node fsck"), "{written}");
}
