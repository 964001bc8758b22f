//! The rules of a bundle: what each is called, where it stands, what it tells the caller, and what it reads of the past.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy};
use dogwood_language::TemporalField;

use super::annotations::Annotations;
use super::lower::{Lowered, Written};
use super::{RuleSource, depth, fingerprint};
use crate::bundle::Bundle;
use crate::decision::{Approver, Condition, RuleId};
use crate::diagnostic::Diagnostic;
use crate::event_schema::MAX_WINDOW_S;
use crate::history::Fingerprint;
use crate::history::plan::Plan;
use crate::history::reads::Reads;
use crate::history::tracking::Tracking;
use crate::limits::MAX_RULE_DEPTH;
use crate::request::Approval;

/// A rule, apart from the Cedar policy that it became.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) source: RuleSource,
    pub(crate) is_permit: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) permit_ttl_s: Option<u32>,
    pub(crate) single_use: bool,
    pub(crate) approvers: Vec<Approver>,
    /// None if the rule reads nothing of the past.
    pub(crate) past: Option<Past>,
}

impl Rule {
    /// True unless its `@approvers` demands more than these approvals.
    pub(crate) fn is_approved(&self, approval: Option<&Approval>) -> bool {
        self.approvers.is_empty()
            || approval.is_some_and(|approval| approval.meets(&self.approvers))
    }
}

/// What a rule reads of the past, and how.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) reads: Reads,
    pub(crate) leaves: Vec<Leaf>,
}

/// A temporal condition, named by the context attribute that carries its value.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) field: TemporalField,
    /// None if only Dogwood's own engine can answer it.
    pub(crate) plan: Option<Plan>,
}

/// Reads all rules, by the ids that Dogwood gave the policies.
pub(super) fn read(
    bundle: &Bundle,
    lowered: &Lowered,
) -> Result<BTreeMap<String, Rule>, Vec<Diagnostic>> {
    // A policy that this knows nothing of would be evaluated, and its forbidding or erring be lost.
    if lowered.rules.len() != lowered.set.as_cedar().policies().count() {
        let message = "the rules cannot be told apart";
        let mend = "write one rule after the other, each ending with `;`";
        return Err(vec![Diagnostic::error("rules", message, mend)]);
    }
    let mut leaves = leaves_by_policy(lowered);
    let mut findings = Vec::new();
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let mut first_places: BTreeMap<RuleId, RuleSource> = BTreeMap::new();
    for (lowered_rule, written) in lowered.set.rules().zip(&lowered.rules) {
        let id = lowered_rule.cedar_policy_id;
        let policies = lowered.set.as_cedar();
        let Some(policy) = policies.policy(&cedar_policy::PolicyId::new(&id)) else {
            findings.push(written.finding("the rule is a template", "name the entity"));
            continue;
        };
        let rule = read_rule(
            bundle,
            written,
            policy,
            leaves.remove(&id).unwrap_or_default(),
        );
        match rule {
            Err(found) => findings.extend(found),
            Ok(rule) => {
                if let Some(first) = first_places.insert(rule.id.clone(), rule.source.clone()) {
                    let message = format!(
                        "its @id is also that of the rule at {}:{}",
                        first.path, first.line
                    );
                    findings.push(written.finding(message, "give one of them another @id"));
                }
                rules.insert(id, rule);
            }
        }
    }
    if findings.is_empty() {
        Ok(rules)
    } else {
        Err(findings)
    }
}

/// What all rules remember of the past.
pub(super) fn tracking(rules: &BTreeMap<String, Rule>) -> Tracking {
    let mut tracking = Tracking::default();
    for past in rules.values().filter_map(|rule| rule.past.as_ref()) {
        let mut unplanned = Reads::default();
        past.leaves
            .iter()
            .filter(|leaf| leaf.plan.is_none())
            .for_each(|leaf| unplanned.add(&leaf.field.condition.condition));
        let plans = past.leaves.iter().filter_map(|leaf| leaf.plan.as_ref());
        tracking.add(&past.reads, plans, &unplanned);
    }
    tracking
}

fn leaves_by_policy(lowered: &Lowered) -> BTreeMap<String, Vec<TemporalField>> {
    let mut leaves: BTreeMap<String, Vec<TemporalField>> = BTreeMap::new();
    for field in lowered.set.temporal_fields() {
        if let Some((policy, _)) = field.id.rsplit_once("__temporal_") {
            leaves
                .entry(policy.to_owned())
                .or_default()
                .push(field.clone());
        }
    }
    leaves
}

fn read_rule(
    bundle: &Bundle,
    written: &Written,
    policy: &Policy,
    leaves: Vec<TemporalField>,
) -> Result<Rule, Vec<Diagnostic>> {
    let Annotations {
        id,
        conditions,
        permit_ttl_s,
        single_use,
        approvers,
    } = Annotations::read(policy).map_err(|refusals| {
        refusals
            .into_iter()
            .map(|(message, mend)| written.finding(message, mend))
            .collect::<Vec<_>>()
    })?;
    let mut reads = Reads::default();
    leaves
        .iter()
        .for_each(|leaf| reads.add(&leaf.condition.condition));
    if reads.reach_s > MAX_WINDOW_S {
        let message = "its windows, one inside the other, reach back further than 30 days";
        let mend = "shorten them: windows inside windows add up";
        return Err(vec![written.finding(message, mend)]);
    }
    if depth::of(policy).max(reads.depth) > MAX_RULE_DEPTH {
        let message = format!(
            "its conditions nest deeper than {MAX_RULE_DEPTH}, chains of operators included"
        );
        return Err(vec![
            written.finding(message, "split the rule into several"),
        ]);
    }
    let past = (!leaves.is_empty()).then(|| Past {
        fingerprint: fingerprint::of(
            &id,
            &written.printed,
            bundle.history(),
            &reads,
            bundle.shapes(),
        ),
        reads,
        leaves: leaves
            .into_iter()
            .map(|field| Leaf {
                plan: Plan::of(&field.condition.condition),
                field,
            })
            .collect(),
    });
    Ok(Rule {
        id: RuleId(id),
        source: written.source.clone(),
        is_permit: policy.effect() == Effect::Permit,
        conditions,
        permit_ttl_s,
        single_use,
        approvers,
        past,
    })
}
