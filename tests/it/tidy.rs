//! Rules about the repository itself that no compiler checks.
//!
//! A rule is a function from what it judges to findings, one sentence each, that say where, what and why. Each rule is
//! tested twice: on the repository, where it must find nothing, and on a bad sample, where it must find something, because
//! a rule that cannot fail protects nothing.

mod decisions;
mod dependencies;
mod manifests;
mod modules;
mod security;
mod sources;
mod tree;
mod trust_inputs;

/// Fails with all findings at once, so that one run shows everything there is to mend.
#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Fails unless a rule has found exactly this on its bad sample.
#[track_caller]
fn assert_finds(findings: &[String], expected: &str) {
    assert!(
        findings.iter().any(|finding| finding.contains(expected)),
        "expected a finding with {expected:?}, found {findings:#?}"
    );
}
