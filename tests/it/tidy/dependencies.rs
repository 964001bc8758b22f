//! The arrows between the crates run one way, and the pure crates reach nothing that could make two replicas differ.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

use super::tree::root;
use super::{assert_finds, assert_none};

/// Every crate of ours and the crates of ours that it may depend on, for its tests too. An arrow that is not here is
/// a decision about the architecture, not an import.
const ARROWS: &[(&str, &[&str])] = &[
    ("ledger-proto", &[]),
    ("policy-engine", &[]),
    ("ledger-core", &["ledger-proto", "policy-engine"]),
    (
        "ledger-client",
        &["ledger-proto", "policy-engine", "ledger-core"],
    ),
    (
        "ledger-node",
        &["ledger-proto", "policy-engine", "ledger-core"],
    ),
    (
        "countersign-tests",
        &[
            "ledger-proto",
            "policy-engine",
            "ledger-core",
            "ledger-client",
            "ledger-node",
        ],
    ),
];

/// Crates whose output must be the same bytes on every machine.
const PURE: &[&str] = &["ledger-proto", "policy-engine", "ledger-core"];

/// What a pure crate must not reach, however many steps away: runtimes, networks, disks, and generators of randomness.
/// `getrandom` is reached through the seeds of hash maps inside the policy crates; it is held off one step, below.
const IMPURE: &[&str] = &[
    "async-std",
    "hyper",
    "mio",
    "openraft",
    "rand",
    "reqwest",
    "rocksdb",
    "smol",
    "tempfile",
    "tokio",
    "tonic",
    "tower",
];

/// What a pure crate must not name itself: clocks and randomness that dependencies may have for other uses.
// jiff is not among them: the core formats times with it, and clippy bans its clock by name.
const IMPURE_DIRECTLY: &[&str] = &["chrono", "fastrand", "getrandom", "time", "uuid"];

/// One arrow: who depends, and on whom.
type Arrow = (String, String);

/// Arrows that [`ARROWS`] does not have, and crates that it does not know.
fn forbidden_arrows(arrows: &BTreeSet<Arrow>, members: &BTreeSet<String>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let unknown = members
        .iter()
        .filter(|member| !allowed.contains_key(member.as_str()))
        .map(|member| format!("{member}: has no row in ARROWS; say what it may depend on"));
    let forbidden = arrows
        .iter()
        .filter(|(from, to)| {
            !allowed
                .get(from.as_str())
                .is_some_and(|targets| targets.contains(&to.as_str()))
        })
        .map(|(from, to)| format!("{from} must not depend on {to}: the arrows run one way"));
    unknown.chain(forbidden).collect()
}

/// Crates that this pure crate reaches and must not.
fn impurities(pure: &str, reached: &BTreeSet<String>, named: &BTreeSet<String>) -> Vec<String> {
    let far = IMPURE
        .iter()
        .filter(|crate_name| reached.contains(**crate_name))
        .map(|crate_name| {
            format!(
                "{pure} reaches {crate_name}; see `cargo tree -p {pure} -e normal -i {crate_name}`"
            )
        });
    let near = IMPURE_DIRECTLY
        .iter()
        .filter(|crate_name| named.contains(**crate_name))
        .map(|crate_name| format!("{pure} names {crate_name}; take a parameter instead"));
    far.chain(near).collect()
}

/// The crates of the workspace, and every dependency of theirs by kind.
fn workspace() -> Vec<(String, Vec<(String, DependencyKind)>)> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo describes the workspace");
    metadata
        .packages
        .iter()
        .map(|package| {
            let dependencies = package
                .dependencies
                .iter()
                .map(|dependency| (dependency.name.clone(), dependency.kind))
                .collect();
            (package.name.to_string(), dependencies)
        })
        .collect()
}

/// What this crate reaches by normal edges with its own features. The resolution of the whole workspace would not do: there
/// the gRPC feature that the node turns on shows for everybody.
fn reached_by(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "--package", package])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    names_in_tree(&String::from_utf8_lossy(&output.stdout))
}

fn names_in_tree(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn arrows_run_one_way() {
    let workspace = workspace();
    let members: BTreeSet<String> = workspace.iter().map(|(name, _)| name.clone()).collect();
    let arrows: BTreeSet<Arrow> = workspace
        .iter()
        .flat_map(|(from, dependencies)| {
            dependencies
                .iter()
                .filter(|(to, _)| members.contains(to))
                .map(|(to, _)| (from.clone(), to.clone()))
        })
        .collect();
    assert!(
        arrows.contains(&("ledger-core".to_owned(), "policy-engine".to_owned())),
        "cargo metadata has shown no arrows at all"
    );
    assert_none(&forbidden_arrows(&arrows, &members));
}

#[test]
fn pure_crates_reach_nothing_impure() {
    let workspace = workspace();
    for pure in PURE {
        let named = workspace
            .iter()
            .filter(|(name, _)| name == pure)
            .flat_map(|(_, dependencies)| dependencies)
            .filter(|(_, kind)| *kind == DependencyKind::Normal)
            .map(|(name, _)| name.clone())
            // Optional, and off for the pure crates: `reached_by` sees to that.
            .collect();
        let reached = reached_by(pure);
        assert!(reached.contains(*pure), "cargo tree has shown nothing");
        assert_none(&impurities(pure, &reached, &named));
    }
}

#[test]
fn an_arrow_that_runs_back_is_found() {
    let arrow = |from: &str, to: &str| BTreeSet::from([(from.to_owned(), to.to_owned())]);
    let members = BTreeSet::from(["ledger-core".to_owned()]);
    let back = forbidden_arrows(&arrow("ledger-core", "ledger-client"), &members);
    assert_finds(&back, "ledger-core must not depend on ledger-client");
    let own = forbidden_arrows(&arrow("policy-engine", "ledger-proto"), &members);
    assert_finds(&own, "policy-engine must not depend on ledger-proto");
    let stranger = BTreeSet::from(["ledger-gadget".to_owned()]);
    assert_finds(
        &forbidden_arrows(&BTreeSet::new(), &stranger),
        "ledger-gadget",
    );
    assert_none(&forbidden_arrows(
        &arrow("ledger-core", "ledger-proto"),
        &members,
    ));
}

#[test]
fn an_impurity_is_found() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let far = names_in_tree("ledger-core v0.1.0 (/x)\ntokio v1.0.0 (*)\n");
    assert_finds(&impurities("ledger-core", &far, &set(&[])), "reaches tokio");
    let near = impurities("ledger-core", &set(&[]), &set(&["uuid"]));
    assert_finds(&near, "names uuid");
    assert_none(&impurities(
        "ledger-core",
        &set(&["uuid"]),
        &set(&["blake3"]),
    ));
}
