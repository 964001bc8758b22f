//! Holds `docs/format.md` to the code: its worked example, its domain strings, its keys and its limits.

mod digests;
mod document;
mod example;

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::state::{Family, Key};

use document::{document, domains_of_source, examples, limits_of_source, table_rows};
use example::{Shown, example};

/// A value as the document writes it.
fn line(name: &str, shown: &Shown) -> String {
    match shown {
        Shown::Text(text) => format!("{name} := {text}"),
        Shown::Bytes(bytes) => format!("{name} = {}", hex::encode(bytes)),
    }
}

#[test]
fn the_worked_example_is_what_the_code_gives() {
    let stated = examples(&document());
    let computed = example().0;
    let mut findings: Vec<String> = computed
        .iter()
        .filter(|(name, shown)| stated.get(name) != Some(shown))
        .map(|(name, shown)| {
            format!(
                "{name} differs or is missing; the code gives\n{}",
                line(name, shown)
            )
        })
        .collect();
    let known: BTreeSet<&String> = computed.iter().map(|(name, _)| name).collect();
    findings.extend(
        stated
            .keys()
            .filter(|name| !known.contains(name))
            .map(|name| format!("{name}: nothing computes this value")),
    );
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_domain_string_is_in_the_document_and_the_reverse() {
    let used = domains_of_source();
    assert!(used.len() > 10, "only {used:?} found in the sources");
    let stated = document::domains(&document());
    assert_eq!(stated, used, "left: the document, right: the sources");
}

#[test]
fn every_family_of_keys_is_in_the_document_and_the_reverse() {
    let used: BTreeMap<String, String> = Family::ALL
        .into_iter()
        .map(|family| {
            let byte = Key::family(family).into_bytes()[0];
            (format!("0x{byte:02x}"), format!("{family:?}"))
        })
        .collect();
    let stated: BTreeMap<String, String> = table_rows(&document(), "State keys")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect();
    assert_eq!(stated, used, "left: the document, right: `Family`");
    for cells in table_rows(&document(), "State keys") {
        let family = Family::ALL
            .into_iter()
            .find(|family| format!("{family:?}") == cells[1])
            .expect("compared above");
        let digested = if family.is_digested() { "yes" } else { "no" };
        assert_eq!(cells[4], digested, "{family:?}: in the state digest?");
    }
}

#[test]
fn every_limit_is_in_the_document_and_the_reverse() {
    let stated: BTreeMap<String, String> = table_rows(&document(), "Limits")
        .into_iter()
        .map(|cells| (cells[0].replace('`', ""), cells[1].replace(',', "")))
        .collect();
    assert_eq!(
        stated,
        limits_of_source(),
        "left: the document, right: the sources"
    );
}
