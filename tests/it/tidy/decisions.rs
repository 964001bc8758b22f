//! Rules about documents: one title each, decisions numbered and whole, the pages that people read first kept short, and no page
//! that names a source file which is not there.

use super::tree::{TextFile, text_files};
use super::{assert_finds, assert_none};

/// Where decisions are.
const FOLDER: &str = "docs/decisions/";

/// The parts of a decision, in their order.
const SECTIONS: &[&str] = &["## Context", "## Decision", "## Consequences"];

/// Documents and the number of lines past which nobody reads them to the end.
const LINES_MAX: &[(&str, usize)] = &[
    ("README.md", 150),
    ("CONTRIBUTING.md", 80),
    ("ARCHITECTURE.md", 300),
];

/// Decisions are named `NNNN-some-words.md`, titled `# NNNN: Words`, numbered without gaps, and have all sections.
fn decisions(files: &[TextFile]) -> Vec<String> {
    let mut findings = Vec::new();
    let decisions: Vec<_> = files
        .iter()
        .filter(|file| file.path.starts_with(FOLDER))
        .collect();
    for (position, file) in decisions.iter().enumerate() {
        let number = format!("{position:04}");
        let path = &file.path;
        if !file.name().starts_with(&format!("{number}-")) || file.extension() != "md" {
            findings.push(format!(
                "{path}: is not named `{number}-some-words.md`; decisions are numbered without gaps"
            ));
            continue;
        }
        let title = format!("# {number}: ");
        if !file
            .text
            .lines()
            .next()
            .is_some_and(|line| line.len() > title.len() && line.starts_with(&title))
        {
            findings.push(format!("{path}: does not open with `{title}` and a title"));
        }
        let found: Vec<_> = file
            .text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        if found != SECTIONS {
            findings.push(format!("{path}: its sections are not {SECTIONS:?}"));
        }
    }
    findings
}

/// A document opens with its title and has no other.
fn one_title(file: &TextFile) -> Vec<String> {
    if file.extension() != "md" {
        return Vec::new();
    }
    let mut fenced = false;
    let titles = file
        .text
        .lines()
        .filter(|line| {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            !fenced && line.starts_with("# ")
        })
        .count();
    if titles == 1 && file.text.starts_with("# ") {
        return Vec::new();
    }
    vec![format!(
        "{}: has {titles} titles; a document opens with `# Title` and has no other",
        file.path
    )]
}

/// The documents that people read first fit on a few screens.
fn short_enough(file: &TextFile) -> Vec<String> {
    let lines = file.text.lines().count();
    LINES_MAX
        .iter()
        .filter(|(path, max)| *path == file.path && lines > *max)
        .map(|(path, max)| {
            format!("{path}: {lines} lines, {max} are the most; move a part to docs/")
        })
        .collect()
}

/// What a document names in backticks as a source file or a folder is there: under its whole path, or the end of one.
fn files_that_are_there(file: &TextFile, files: &[TextFile]) -> Vec<String> {
    if file.extension() != "md" {
        return Vec::new();
    }
    let is_there = |name: &str| {
        let end = format!("/{name}");
        files.iter().any(|file| {
            let path = format!("/{}", file.path);
            if name.ends_with('/') {
                path.contains(&end)
            } else {
                path.ends_with(&end)
            }
        })
    };
    let is_name = |name: &&str| {
        let of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let is_file = [".rs", ".proto", "/"].iter().any(|end| name.ends_with(end));
        name.len() > 1 && !name.starts_with('.') && is_file && name.chars().all(of_path)
    };
    // Every second part is between backticks.
    file.text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(is_name)
        .filter(|name| !is_there(name))
        .map(|name| format!("{}: names `{name}`, which is not there", file.path))
        .collect()
}

#[test]
fn documents_name_files_that_are_there() {
    let files = text_files();
    let found = files
        .iter()
        .flat_map(|file| files_that_are_there(file, &files));
    assert_none(&found.collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_not_there_is_found() {
    let page = TextFile::sample("a.md", "`b/c.rs`, `c.rs`, `b/` and `/`; `x y.rs`\n");
    let code = TextFile::sample("a/b/c.rs", "");
    assert_none(&files_that_are_there(&page, &[code]));
    let gone = TextFile::sample("a/b/cc.rs", "");
    let found = files_that_are_there(&page, &[gone]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_finds(&found, "names `c.rs`, which is not there");
}

#[test]
fn decisions_are_numbered_and_whole() {
    let files = text_files();
    assert!(files.iter().any(|file| file.path.starts_with(FOLDER)));
    assert_none(&decisions(&files));
}

#[test]
fn documents_have_one_title() {
    let found: Vec<_> = text_files().iter().flat_map(one_title).collect();
    assert_none(&found);
}

#[test]
fn first_pages_are_short() {
    let files = text_files();
    for (path, _) in LINES_MAX {
        assert!(
            files.iter().any(|file| file.path == *path),
            "{path} is missing"
        );
    }
    let found: Vec<_> = files.iter().flat_map(short_enough).collect();
    assert_none(&found);
}

#[test]
fn a_bad_decision_is_found() {
    let whole = "## Context\n\nA.\n\n## Decision\n\nB.\n\n## Consequences\n\nC.\n";
    let file = |name: &str, text: &str| TextFile::sample(&format!("{FOLDER}{name}"), text);
    let good = file("0000-template.md", &format!("# 0000: Title\n\n{whole}"));
    assert_none(&decisions(std::slice::from_ref(&good)));
    let gap = file("0002-gap.md", &format!("# 0002: Gap\n\n{whole}"));
    assert_finds(&decisions(&[good.clone(), gap]), "without gaps");
    let untitled = file("0001-words.md", whole);
    assert_finds(
        &decisions(&[good.clone(), untitled]),
        "`# 0001: ` and a title",
    );
    let half = file("0001-words.md", "# 0001: Words\n\n## Context\n");
    assert_finds(&decisions(&[good, half]), "its sections are not");
}

#[test]
fn a_bad_document_is_found() {
    assert_finds(
        &one_title(&TextFile::sample("a.md", "text\n")),
        "has 0 titles",
    );
    assert_finds(
        &one_title(&TextFile::sample("a.md", "# A\n# B\n")),
        "has 2 titles",
    );
    assert_none(&one_title(&TextFile::sample(
        "a.md",
        "# A\n```\n# sh\n```\n",
    )));
    let long = TextFile::sample("README.md", &"x\n".repeat(151));
    assert_finds(&short_enough(&long), "151 lines");
}
