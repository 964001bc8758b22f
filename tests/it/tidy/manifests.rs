//! Rules about the workspace's manifests: who is a member, who inherits the lints, and what the pure crates ban.

use super::tree::{TextFile, text_files};
use super::{assert_finds, assert_none};

/// The folders that hold a crate. Each that exists is a member, and nothing else is.
const CRATE_FOLDERS: &[&str] = &[
    "proto",
    "policy-engine",
    "ledger-core",
    "ledger-node",
    "ledger-client",
    "tests",
];

/// Crates that do not inherit the workspace's lints, each with the reason.
const OWN_LINTS: &[(&str, &str)] = &[("proto", "all of its code is generated")];

/// Crates with a `clippy.toml` of their own. `proto` holds generated code only and has no logic to restrain.
const PURE_FOLDERS: &[&str] = &["policy-engine", "ledger-core"];

/// What each of those files must ban: clock, randomness, environment, files, threads, async, and maps ordered by hash.
const BANS: &[&str] = &[
    "ed25519_dalek::VerifyingKey::verify",
    "ed25519_dalek::verify_batch",
    "rand::random",
    "rand::thread_rng",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::env::args",
    "std::env::var",
    "std::env::vars",
    "std::fs::File",
    "std::fs::read",
    "std::fs::read_dir",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::net::TcpStream",
    "std::thread::Builder::spawn",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::time::Instant",
    "std::time::Instant::now",
    "std::time::SystemTime",
    "std::time::SystemTime::now",
    "tokio::spawn",
];

/// Lints that make a pure crate deterministic; the workspace denies them, and every crate inherits them.
const DENIED_LINTS: &[&str] = &[
    "disallowed_methods",
    "disallowed_types",
    "float_arithmetic",
    "iter_over_hash_type",
    "expect_used",
    "indexing_slicing",
    "panic",
    "unwrap_used",
];

/// Every crate folder is a member, every member is one of these folders, and every manifest inherits the lints.
fn members(files: &[TextFile]) -> Vec<String> {
    let mut findings = Vec::new();
    let listed = workspace_members(files);
    for folder in CRATE_FOLDERS {
        let manifest = format!("{folder}/Cargo.toml");
        let file = files.iter().find(|file| file.path == manifest);
        let is_member = listed.iter().any(|member| member == folder);
        match file {
            Some(_) if !is_member => {
                findings.push(format!("{folder}: is not a member of the workspace"));
            }
            Some(file)
                if !file.text.contains("[lints]\nworkspace = true\n")
                    && !OWN_LINTS.iter().any(|(exempt, _)| exempt == folder) =>
            {
                findings.push(format!(
                    "{manifest}: does not inherit the workspace's lints"
                ));
            }
            Some(_) => {}
            None if is_member => {
                findings.push(format!("{folder}: is a member and has no manifest"))
            }
            None => {}
        }
    }
    for member in listed {
        if !CRATE_FOLDERS.contains(&member.as_str()) {
            findings.push(format!(
                "{member}: is a member and not in CRATE_FOLDERS; a new crate is a decision, write it down"
            ));
        }
    }
    findings
}

/// The strings of `members = [...]` in the root manifest.
fn workspace_members(files: &[TextFile]) -> Vec<String> {
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    let list = root
        .and_then(|file| file.text.split_once("\nmembers = ["))
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The pure crates ban what could make two replicas differ, and each ban says what to use instead.
fn bans(folder: &str, text: &str) -> Vec<String> {
    let missing = BANS
        .iter()
        .filter(|ban| !text.contains(&format!("path = \"{ban}\"")))
        .map(|ban| format!("{folder}/clippy.toml: does not ban {ban}"));
    let unreasoned = text
        .lines()
        .filter(|line| line.contains("path = ") && !line.contains("reason = \""))
        .map(|line| {
            format!(
                "{folder}/clippy.toml: a ban without a replacement: {}",
                line.trim()
            )
        });
    missing.chain(unreasoned).collect()
}

/// The workspace denies what the bans rest on.
fn lints(manifest: &str) -> Vec<String> {
    DENIED_LINTS
        .iter()
        .filter(|lint| {
            !manifest
                .lines()
                .any(|line| line == format!("{lint} = \"deny\""))
        })
        .map(|lint| format!("Cargo.toml: does not deny clippy::{lint}"))
        .collect()
}

fn text_of(files: &[TextFile], path: &str) -> String {
    files
        .iter()
        .find(|file| file.path == path)
        .map_or_else(String::new, |file| file.text.clone())
}

#[test]
fn every_crate_is_a_member_and_inherits_the_lints() {
    let files = text_files();
    assert!(!workspace_members(&files).is_empty());
    assert_none(&members(&files));
}

#[test]
fn pure_crates_ban_what_differs_between_machines() {
    let files = text_files();
    for folder in PURE_FOLDERS {
        let text = text_of(&files, &format!("{folder}/clippy.toml"));
        assert_none(&bans(folder, &text));
    }
    assert_none(&lints(&text_of(&files, "Cargo.toml")));
}

#[test]
fn a_crate_outside_the_workspace_is_found() {
    let root = TextFile::sample(
        "Cargo.toml",
        "[workspace]\nmembers = [\"proto\", \"gadget\"]\n",
    );
    let proto = TextFile::sample("proto/Cargo.toml", "[package]\n");
    let core = TextFile::sample("ledger-core/Cargo.toml", "[lints]\nworkspace = true\n");
    let found = members(&[root, proto, core]);
    assert_finds(&found, "ledger-core: is not a member");
    assert_finds(&found, "gadget: is a member and not in CRATE_FOLDERS");
}

#[test]
fn a_member_without_a_manifest_is_found() {
    let root = TextFile::sample("Cargo.toml", "[workspace]\nmembers = [\"proto\"]\n");
    assert_finds(&members(&[root]), "proto: is a member and has no manifest");
}

#[test]
fn a_manifest_with_lints_of_its_own_is_found() {
    let root = TextFile::sample("Cargo.toml", "[workspace]\nmembers = [\"ledger-core\"]\n");
    let core = TextFile::sample("ledger-core/Cargo.toml", "[package]\n");
    assert_finds(
        &members(&[root, core]),
        "ledger-core/Cargo.toml: does not inherit",
    );
}

#[test]
fn a_missing_ban_is_found() {
    let found = bans("ledger-core", "  { path = \"std::fs::read\" },\n");
    assert_finds(&found, "does not ban std::time::SystemTime::now");
    assert_finds(&found, "a ban without a replacement");
    assert_finds(&bans("ledger-core", ""), "does not ban std::fs::read");
    assert_finds(&lints("unwrap_used = \"warn\"\n"), "clippy::unwrap_used");
}
