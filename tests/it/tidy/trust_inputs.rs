//! Rules about `docs/trust-inputs.md`: every field that a decision, a root, a checkpoint or a client's yes depends on has one row
//! that says who says it, who checks it, and what happens when it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ledger_proto::DESCRIPTORS;
use prost::Message;
use prost_types::FileDescriptorSet;

use super::tree::root;
use super::{assert_finds, assert_none};

/// The page.
const PAGE: &str = "docs/trust-inputs.md";
/// A row has so many cells: field, who says it, who checks it, when it is wrong.
const CELLS: usize = 4;
/// The longest cell that is read at a glance; the first, which lists fields, may be longer.
const CELL_MAX: usize = 140;
/// The package of what nodes say to each other: all of its messages count.
const PEER_PACKAGE: &str = "countersign.peer.v1";
/// The services whose answers count.
const SERVICES: &[&str] = &[
    "AuthorizationService",
    "ClusterService",
    "LedgerService",
    "PeerService",
];
/// Messages that no answer leads to, because they travel as bytes inside others, in notes and files.
const ROOTS: &[&str] = &[
    "Batch",
    "Command",
    "Entry",
    "Evidence",
    "ResourceFacts",
    "SessionContext",
];
/// Advice for authors of rules, which nothing depends on.
const LEFT_OUT: &[&str] = &["Explanation"];

/// The fields of each message, by short name, and the messages that they are of.
type Messages = BTreeMap<String, Vec<(String, Option<String>)>>;

fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}

fn messages(descriptors: &FileDescriptorSet) -> Messages {
    descriptors
        .file
        .iter()
        .filter(|file| file.package().starts_with("countersign."))
        .flat_map(|file| &file.message_type)
        .map(|message| {
            let fields = message.field.iter().map(|field| {
                let of = field.type_name.as_deref().map(short).map(str::to_owned);
                (field.name().to_owned(), of)
            });
            (message.name().to_owned(), fields.collect())
        })
        .collect()
}

/// Messages to begin with: everything that peers say, what answers hold, and [`ROOTS`].
fn starts(descriptors: &FileDescriptorSet) -> Vec<String> {
    let of_peers = descriptors
        .file
        .iter()
        .filter(|file| file.package() == PEER_PACKAGE)
        .flat_map(|file| &file.message_type)
        .map(|message| message.name().to_owned());
    let answers = descriptors
        .file
        .iter()
        .flat_map(|file| &file.service)
        .filter(|service| SERVICES.contains(&service.name()))
        .flat_map(|service| &service.method)
        .map(|method| short(method.output_type()).to_owned());
    let roots = ROOTS.iter().map(|root| (*root).to_owned());
    of_peers.chain(answers).chain(roots).collect()
}

/// `Message.field` of every message that can be reached from these.
fn reachable(messages: &Messages, starts: Vec<String>) -> BTreeSet<String> {
    let mut todo = starts;
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = todo.pop() {
        let Some(fields) = messages.get(&name) else {
            continue;
        };
        if LEFT_OUT.contains(&name.as_str()) || !seen.insert(name.clone()) {
            continue;
        }
        for (field, of) in fields {
            found.insert(format!("{name}.{field}"));
            todo.extend(of.clone());
        }
    }
    found
}

/// The keys of metadata that a description of a protocol lists: lines of a comment that begin with such a key.
fn metadata_keys(proto: &str) -> BTreeSet<String> {
    proto
        .lines()
        .filter_map(|line| line.strip_prefix("//"))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with("countersign-"))
        .map(str::to_owned)
        .collect()
}

/// What a row names: `Message.field, other` or a key of metadata.
fn named(cell: &str) -> Vec<String> {
    let inside = cell.trim_matches('`');
    match inside.split_once('.') {
        None => vec![inside.to_owned()],
        Some((message, fields)) => fields
            .split(", ")
            .map(|field| format!("{message}.{field}"))
            .collect(),
    }
}

/// Judges the page against the fields that it must have.
fn judge(page: &str, wanted: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut found = BTreeSet::new();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let field = cells.first().copied().unwrap_or_default();
        if cells.len() != CELLS || cells.iter().any(|cell| cell.is_empty()) {
            findings.push(format!("{field}: not {CELLS} cells with words in them"));
        }
        for long in cells.iter().skip(1).filter(|cell| cell.len() > CELL_MAX) {
            findings.push(format!("{field}: too long to be read at a glance: {long}"));
        }
        for name in named(field) {
            if !wanted.contains(&name) {
                findings.push(format!("{name}: has a row, and is no field that counts"));
            }
            if !found.insert(name.clone()) {
                findings.push(format!("{name}: has two rows"));
            }
        }
    }
    let missing = wanted.difference(&found);
    findings.extend(missing.map(|name| {
        format!("{name}: has no row that says who says it, who checks it, and what happens when it is wrong")
    }));
    findings
}

fn wanted() -> BTreeSet<String> {
    let descriptors =
        FileDescriptorSet::decode(DESCRIPTORS).expect("the build has written a descriptor set");
    let mut wanted = reachable(&messages(&descriptors), starts(&descriptors));
    let peers = root().join("proto/proto/countersign/peer/v1/peer_service.proto");
    let peers = fs::read_to_string(peers).expect("the peers' protocol can be read");
    wanted.extend(metadata_keys(&peers));
    wanted
}

#[test]
fn every_field_says_who_checks_it() {
    let wanted = wanted();
    for sample in [
        "Batch.time_us",
        "Authorize.agent",
        "AppendRequest.entries",
        "Liveness.time_us",
        "Evidence.checkpoint",
        "countersign-from",
    ] {
        assert!(wanted.contains(sample), "{sample} is not looked for");
    }
    let page = fs::read_to_string(root().join(PAGE)).expect("the page can be read");
    let findings: Vec<_> = judge(&page, &wanted)
        .iter()
        .map(|finding| format!("{PAGE}: {finding}"))
        .collect();
    assert_none(&findings);
}

#[test]
fn a_field_without_a_row_and_a_row_without_a_field_are_found() {
    let wanted: BTreeSet<_> = ["A.a", "A.b", "B.c", "countersign-from"]
        .map(str::to_owned)
        .into();
    let good =
        "| `A.a, b` | x | y | z |\n| `B.c` | x | y | z |\n| `countersign-from` | x | y | z |\n";
    assert_none(&judge(good, &wanted));
    let without = good.replace("| `B.c` | x | y | z |\n", "");
    assert_finds(&judge(&without, &wanted), "B.c: has no row");
    let unknown = good.replace("`A.a, b`", "`A.a, b, d`");
    assert_finds(&judge(&unknown, &wanted), "A.d: has a row, and is no field");
    let twice = format!("{good}| `B.c` | x | y | z |\n");
    assert_finds(&judge(&twice, &wanted), "B.c: has two rows");
    let short = good.replace("| x | y | z |\n| `B", "| x | z |\n| `B");
    assert_finds(&judge(&short, &wanted), "`A.a, b`: not 4 cells");
    let long = good.replacen('z', &"z".repeat(CELL_MAX + 1), 1);
    assert_finds(&judge(&long, &wanted), "too long to be read at a glance");
}

#[test]
fn fields_are_looked_for_through_messages_and_answers() {
    let fields = |list: &[(&str, Option<&str>)]| {
        let owned = |(name, of): &(&str, Option<&str>)| (name.to_string(), of.map(str::to_owned));
        list.iter().map(owned).collect::<Vec<_>>()
    };
    let messages = Messages::from([
        ("A".to_owned(), fields(&[("b", Some("B")), ("plain", None)])),
        ("B".to_owned(), fields(&[("back", Some("A"))])),
        ("C".to_owned(), fields(&[("unreached", None)])),
    ]);
    let found = reachable(&messages, vec!["A".to_owned()]);
    assert_eq!(
        found,
        ["A.b", "A.plain", "B.back"].map(str::to_owned).into()
    );
    let keys = metadata_keys("//   countersign-from   who\n// Countersign, countersign-to\n");
    assert_eq!(keys, ["countersign-from".to_owned()].into());
}
