//! Rules about `SECURITY.md`: each thing that an actor can or cannot do names the test that shows it, and that test exists.

use super::tree::{TextFile, text_files};
use super::{assert_finds, assert_none};

/// The page.
const PAGE: &str = "SECURITY.md";
/// Who can attack; each has a section.
const ACTORS: &[&str] = &[
    "### An outsider",
    "### A man in the middle",
    "### An agent",
    "### A gateway",
    "### A tenant",
    "### An operator",
    "### One node",
    "### A majority of nodes",
    "### A disk",
    "### A clock",
];

/// A test as the page names it: `file.rs::name`.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    // Every second part is between backticks.
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter_map(|name| name.split_once(".rs::"))
        .collect()
}

fn is_there(file: &str, test: &str, files: &[TextFile]) -> bool {
    let end = format!("/{file}.rs");
    let head = format!("fn {test}(");
    files
        .iter()
        .any(|file| format!("/{}", file.path).ends_with(&end) && file.text.contains(&head))
}

/// Judges the page.
fn judge(page: &str, files: &[TextFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for actor in ACTORS {
        if !page.lines().any(|line| line.starts_with(actor)) {
            findings.push(format!("there is no section {actor:?}"));
        }
    }
    let is_row = |line: &&str| line.starts_with("| can");
    for row in page.lines().filter(is_row) {
        let shown_by = row.trim_end_matches('|').rsplit(" | ").next();
        if tests_named(shown_by.unwrap_or_default()).is_empty() {
            findings.push(format!("names no test that shows it: {row}"));
        }
    }
    for (file, test) in tests_named(page) {
        if !is_there(file, test, files) {
            findings.push(format!(
                "names `{file}.rs::{test}`, and there is no such test"
            ));
        }
    }
    findings
}

#[test]
fn what_attackers_can_do_is_shown_by_tests_that_exist() {
    let files = text_files();
    let page = files
        .iter()
        .find(|file| file.path == PAGE)
        .expect("SECURITY.md is there");
    let rows = page.text.lines().filter(|line| line.starts_with("| can"));
    assert!(rows.count() >= ACTORS.len(), "the page has rows");
    assert_none(&judge(&page.text, &files));
}

#[test]
fn a_test_that_is_not_there_and_a_row_without_one_are_found() {
    let sections = ACTORS.join("\n");
    let file = TextFile::sample("tests/it/a.rs", "#[test]\nfn shown() {}\n");
    let files = std::slice::from_ref(&file);
    let good = format!("{sections}\n| can look | nobody | `a.rs::shown` |\n");
    assert_none(&judge(&good, files));
    let gone = good.replace("::shown", "::hidden");
    assert_finds(
        &judge(&gone, files),
        "`a.rs::hidden`, and there is no such test",
    );
    let without = good.replace("`a.rs::shown`", "words");
    assert_finds(
        &judge(&without, files),
        "names no test that shows it: | can look",
    );
    let fewer = good.replace("### A disk", "");
    assert_finds(&judge(&fewer, files), "no section \"### A disk\"");
}
