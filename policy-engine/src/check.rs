//! What can be said against a bundle: errors that keep it from being published, and warnings about rules that work, but
//! probably not as their author thinks.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint};
use cedar_policy_core::ast::{Expr, ExprKind, Var};

use crate::bundle::Bundle;
use crate::compile::{Compiled, Rule};
use crate::diagnostic::Diagnostic;
use crate::history::EventKind;

mod ids;
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
        if rule.is_permit && policy.is_some_and(rests_on_claims_alone) {
            warn(
                "the permit rests on claims alone, and those only the agent itself makes",
                "ask for something that somebody else vouches for, such as context.session.grants",
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
                "the permit reads `::request` events, which denied requests leave too",
                "read `::allowed`, or `::response` for what was really done",
            );
        }
        if reads.counted.contains(&EventKind::Response) {
            warn(
                "the rule counts `::response` events, which come late or never",
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

/// True if the policy reads the agent's claims, and nothing that anybody else vouches for.
fn rests_on_claims_alone(policy: &Policy) -> bool {
    let is_scoped = policy.principal_constraint() != PrincipalConstraint::Any
        || policy.resource_constraint() != ResourceConstraint::Any;
    let policy: &cedar_policy_core::ast::Policy = policy.as_ref();
    let Some(condition) = policy.non_scope_constraints() else {
        return false;
    };
    let (mut reads_claims, mut reads_trusted) = (false, is_scoped);
    for part in condition.subexpressions() {
        let kind = part.expr_kind();
        reads_trusted |= matches!(kind, ExprKind::Var(Var::Principal | Var::Resource));
        if let ExprKind::GetAttr { expr, attr } = kind {
            match context_group(expr) {
                Some("request") if attr == "claims" => reads_claims = true,
                Some("request" | "session" | "system") => reads_trusted = true,
                _ => {}
            }
        }
        // A temporal condition is an attribute of the context itself.
        reads_trusted |= context_group(part).is_some_and(|group| group.contains("__temporal_"));
    }
    reads_claims && !reads_trusted
}

/// The name, if the expression is an attribute of the context.
fn context_group(expr: &Expr) -> Option<&str> {
    let ExprKind::GetAttr { expr, attr } = expr.expr_kind() else {
        return None;
    };
    matches!(expr.expr_kind(), ExprKind::Var(Var::Context)).then_some(attr.as_str())
}

#[cfg(test)]
mod tests;
