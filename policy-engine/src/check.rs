//! What can be said against a bundle: errors that keep it from being published, and warnings about rules that work, but
//! probably not as their author thinks.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{PolicyId, PolicySet};

use crate::bundle::Bundle;
use crate::compile::{Compiled, Rule};
use crate::diagnostic::Diagnostic;
use crate::history::EventKind;

mod ids;
mod own_word;
mod reach;

pub use ids::add_missing_ids;
pub(crate) use ids::id_in;

/// All findings about a bundle, errors or else warnings, sorted. It says more than compiling does: what only its author needs
/// to know is not looked for at each publish.
pub fn check(bundle: &Bundle) -> Vec<Diagnostic> {
    let mut findings = match Compiled::compile(bundle) {
        Ok(compiled) => {
            let mut findings = reach::warnings(bundle, &compiled);
            findings.extend(compiled.warnings().iter().cloned());
            findings
        }
        Err(findings) => findings,
    };
    // Of an action that is not there, the one finding that names it is enough.
    let unknown: BTreeSet<_> = findings
        .iter()
        .filter(|finding| finding.message.starts_with("unrecognized action"))
        .map(|finding| finding.rule.clone())
        .collect();
    findings.retain(|finding| {
        !finding.message.starts_with(NO_ACTION) || !unknown.contains(&finding.rule)
    });
    let mut findings: Vec<_> = findings.into_iter().map(in_our_words).collect();
    findings.sort_unstable();
    findings.dedup();
    findings
}

/// How Cedar says that a scope holds for no action.
const NO_ACTION: &str = "unable to find an applicable action";

/// Cedar's findings about rules that never match, as an author of rules for agents can use them.
fn in_our_words(finding: Diagnostic) -> Diagnostic {
    let message = if finding.message.starts_with(NO_ACTION) {
        "the rule can never match: no action of the schema can be asked for in its scope"
    } else if finding.message.starts_with("policy is impossible") {
        "the rule can never match: with the schema's types its scope and conditions are always false"
    } else {
        return finding;
    };
    let mend = "name actions that `policy schema` prints; every principal is a Countersign::Agent and every resource a \
                Countersign::Resource";
    Diagnostic {
        message: message.to_owned(),
        mend: mend.to_owned(),
        ..finding
    }
}

/// The warnings about sound rules, which are given by the ids of their policies.
pub(crate) fn warnings(policies: &PolicySet, rules: &BTreeMap<String, Rule>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (id, rule) in rules {
        let policy = policies.policy(&PolicyId::new(id));
        let reads = rule.past.as_ref().map(|past| &past.reads);
        let mut warn = |message: &str, mend: &str| {
            found.push(
                Diagnostic::warning(&rule.source.path, message, mend)
                    .at_line(rule.source.line)
                    .in_rule(&rule.id.0),
            );
        };
        if let Some(words) = policy.and_then(|policy| own_word::of(rule, policy)) {
            warn(
                &format!("the permit can be satisfied by the agent's own word: {words}"),
                "ask on each way for something that somebody else vouches for too, such as context.session.grants, \
                 context.session.issuer.operator or `::response` events",
            );
        }
        let Some(reads) = reads else { continue };
        if rule.is_permit
            && reads
                .topics
                .keys()
                .any(|(_, kind)| *kind == EventKind::Request)
        {
            warn(
                "the permit reads `::request` events, which an agent makes by asking, whatever it is answered",
                "read `::allowed`, or `::response` for what was really done",
            );
        }
        if reads.counted.iter().any(|kind| kind.is_outcome()) {
            warn(
                "the rule counts events of outcomes, which come late or never",
                "count `::allowed` events: they are there before the next request is decided",
            );
        }
        if reads.everything {
            warn(
                "an event of any kind can change what the rule's temporal condition says, so all are kept for its window",
                "name the events that matter, for example `formerly within 1h …::allowed{…}`",
            );
        }
    }
    found
}

#[cfg(test)]
mod tests;
