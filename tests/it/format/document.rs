//! Reading `docs/format.md`, and the sources that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::example::Shown;

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("a folder of the workspace")
        .to_owned()
}

/// The document.
pub(super) fn document() -> String {
    fs::read_to_string(root().join("docs/format.md")).expect("the document exists")
}

/// The values in blocks fenced as `example`: `name = hex`, where lines that begin with a space go on with the hex, and
/// `name := text`.
pub(super) fn examples(document: &str) -> BTreeMap<String, Shown> {
    let mut found: BTreeMap<String, Shown> = BTreeMap::new();
    for block in document.split("```example\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a fence ends");
        for line in block.replace("\n  ", "").lines() {
            let (name, shown) = match line.split_once(" := ") {
                Some((name, text)) => (name, Shown::Text(text.to_owned())),
                None => {
                    let (name, hex) = line.split_once(" = ").expect("`name = hex`");
                    (name, Shown::Bytes(hex::decode(hex).expect("hex")))
                }
            };
            let earlier = found.insert(name.to_owned(), shown);
            assert!(earlier.is_none(), "{name} is stated twice");
        }
    }
    found
}

/// Every `countersign-…-v1` with what ends it (`\0` or `\n`), wherever it stands.
pub(super) fn domains(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("countersign-") {
        let rest = &text[at..];
        let name: &str = rest
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
            .next()
            .unwrap_or_default();
        let end = rest[name.len()..].get(..2).unwrap_or_default();
        if name.ends_with("-v1") && matches!(end, "\\0" | "\\n") {
            found.insert(format!("{name}{end}"));
        }
    }
    found
}

/// The domain strings in the sources of all crates that ship.
pub(super) fn domains_of_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = [
        "ledger-core",
        "policy-engine",
        "ledger-client",
        "ledger-node",
    ]
    .map(|folder| root().join(folder).join("src"))
    .into_iter()
    .filter(|folder| folder.exists())
    .collect();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).expect("a folder of sources") {
            let path = item.expect("an item").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.extend(domains(&fs::read_to_string(path).expect("a source")));
            }
        }
    }
    found
}

/// The rows of the tables under a heading that ends so, without their headers; each as its cells, back-ticks removed from the
/// first two.
pub(super) fn table_rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let mut inside = false;
    let mut rows = Vec::new();
    for line in document.lines() {
        if line.starts_with('#') {
            inside = line.ends_with(heading);
        } else if inside && line.starts_with("| `") {
            let cells = line.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().replace('`', "")).collect());
        }
    }
    rows
}

/// Every public constant of the two files of limits, as the compiler reads it.
pub(super) fn limits_of_source() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in ["ledger-core/src/limits.rs", "policy-engine/src/limits.rs"] {
        let text = fs::read_to_string(root().join(path)).expect("a file of limits");
        let mut declared: Vec<(String, String)> = text
            .split("\npub const ")
            .skip(1)
            .map(|rest| {
                let (constant, _) = rest.split_once(';').expect("a constant ends");
                let (name, expression) = constant.split_once(" = ").expect("a value");
                let name = name.split(':').next().unwrap_or_default();
                (name.to_owned(), expression.to_owned())
            })
            .collect();
        let mut known: BTreeMap<String, u128> = BTreeMap::new();
        // Constants may stand in any order, so each round computes those whose parts are known.
        while !declared.is_empty() {
            let before = declared.len();
            declared.retain(|(name, expression)| match evaluate(expression, &known) {
                Some(value) => {
                    known.insert(name.clone(), value);
                    false
                }
                None => true,
            });
            assert!(declared.len() < before, "cannot be evaluated: {declared:?}");
        }
        for (name, value) in known {
            let value = value.to_string();
            let earlier = found.insert(name.clone(), value.clone());
            assert!(
                earlier.is_none_or(|earlier| earlier == value),
                "{name} has two values"
            );
        }
    }
    found
}

/// Sums of products of numbers, parentheses around one product, and constants: all that the files of limits hold.
fn evaluate(expression: &str, known: &BTreeMap<String, u128>) -> Option<u128> {
    let plain = expression.replace(['(', ')'], "");
    let value = |word: &str| {
        let number = word.replace('_', "").parse().ok();
        number.or_else(|| known.get(word).copied())
    };
    let product =
        |text: &str| -> Option<u128> { text.split('*').map(|word| value(word.trim())).product() };
    plain.split('+').map(product).sum()
}

#[test]
fn constants_are_evaluated() {
    let known = BTreeMap::from([("A_B".to_owned(), 7)]);
    assert_eq!(evaluate("60_000", &known), Some(60_000));
    assert_eq!(
        evaluate("A_B + 2 * (256 * 1024) + 1", &known),
        Some(524_296)
    );
}

#[test]
fn examples_are_read() {
    let read = examples("x\n```example\na = 01\n  02\nb := c = d\n```\n");
    assert_eq!(read.get("a"), Some(&Shown::Bytes(vec![1, 2])));
    assert_eq!(read.get("b"), Some(&Shown::Text("c = d".to_owned())));
    let found = domains(r"countersign-a-v1\0 and countersign-b-v1 and countersign-c-v1\n");
    assert_eq!(found.len(), 2);
}
