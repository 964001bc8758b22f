//! The commands of the pages for newcomers and for operators, run as they stand there.

use std::path::Path;

use countersign_tests::cluster::documents::{Shell, commands, shown};

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

#[test]
fn what_newcomers_are_told_to_type_works_and_writes_what_they_are_shown() {
    let page = include_str!("../../../README.md");
    // Both have tests of their own: the one of the demo, and this one.
    let sh: Vec<&str> = page.split("```sh\n").skip(1).collect();
    let [block] = sh.as_slice() else {
        panic!("the page has one block of commands that are not run here")
    };
    let block = block.split("```").next().unwrap_or_default();
    let programs: Vec<&str> = block
        .lines()
        .filter_map(|line| line.split("  ").next())
        .collect();
    assert_eq!(programs, ["make demo", "make test"]);

    let commands: Vec<String> = commands(page)
        .into_iter()
        // Whoever runs this test has built the programs.
        .filter(|command| !command.starts_with("cargo build "))
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for part in ["scripts", "examples"] {
        let link = folder.path().join(part);
        std::os::unix::fs::symlink(root.join(part), link).expect("a link");
    }
    let (_shell, written) = Shell::must_run(&commands, folder.path());
    let mut rest = written.as_str();
    for line in shown(page) {
        let Some((_, after)) = rest.split_once(&line) else {
            panic!("not written, at this point: {line}\n{written}");
        };
        rest = after;
    }
    assert!(written.contains("evaluated again with the same result, 0 not"));
}
