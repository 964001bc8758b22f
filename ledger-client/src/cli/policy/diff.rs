//! `ledger-client policy diff`: what another bundle would have decided otherwise.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use policy_engine::{Compiled, Decision, Rehearsal, RuleId};
use serde_json::{Value, json};

use super::super::show::print_table;
use super::super::{Exit, Failure, print_json};
use super::by_namespace;
use super::past::{Asked, Past, Source, Step};

#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// A bundle, or a folder of bundles named by the suites of a file or the namespaces of a ledger.
    before: PathBuf,
    /// The bundle, or folder of bundles, to compare with it.
    after: PathBuf,
    #[command(flatten)]
    source: Source,
}

/// The two bundles of a namespace, each with the past that its own decisions made.
struct Sides<'c> {
    before: Rehearsal<'c>,
    after: Rehearsal<'c>,
}

pub(super) fn diff(diff: &Diff, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let past = Past::read(&diff.source)?;
    let namespaces = past.namespaces();
    let before = by_namespace(&diff.before, &namespaces)?;
    let after = by_namespace(&diff.after, &namespaces)?;
    let mut sides: BTreeMap<&str, Sides<'_>> = BTreeMap::new();
    for (name, (_, compiled)) in &before {
        if let Some((_, other)) = after.get(name) {
            sides.insert(name, both(compiled, other));
        }
    }
    let mut actions = 0_u64;
    let mut changes = Vec::new();
    let mut by_rule: BTreeMap<(String, &str, &str), u64> = BTreeMap::new();
    for step in &past.steps {
        match step {
            Step::Asked(asked) => {
                let Some(sides) = sides.get_mut(asked.namespace.as_str()) else {
                    continue;
                };
                actions += 1;
                let was = sides.before.ask(asked.request.clone());
                let is = sides.after.ask(asked.request.clone());
                if was.verdict == is.verdict && was.rules == is.rules {
                    continue;
                }
                for rule in responsible(&was, &is) {
                    let key = (rule, was.verdict.as_str(), is.verdict.as_str());
                    *by_rule.entry(key).or_default() += 1;
                }
                changes.push(change(asked, &was, &is));
            }
            Step::Ended(ended) => {
                if let Some(Sides { before, after }) = sides.get_mut(ended.namespace.as_str()) {
                    ended.tell(before);
                    ended.tell(after);
                }
            }
        }
    }
    let by_rule = by_rule.into_iter().map(|((rule, before, after), actions)| {
        json!({ "rule": rule, "before": before, "after": after, "actions": actions })
    });
    let by_rule: Vec<Value> = by_rule.collect();
    show(actions, past.left_out, &by_rule, &changes, json, out)
}

fn both<'c>(before: &'c Compiled, after: &'c Compiled) -> Sides<'c> {
    Sides {
        before: Rehearsal::new(before),
        after: Rehearsal::new(after),
    }
}

/// The rules that make the difference: those that determined one decision only, marked `-` for the first and `+` for the
/// second bundle. Where no rule spoke, that is what is said.
fn responsible(was: &Decision, is: &Decision) -> Vec<String> {
    let only = |sign: char, these: &Decision, others: &Decision| -> Vec<String> {
        if these.rules.is_empty() {
            return vec![format!("{sign}({})", these.reason.as_str())];
        }
        let rules = these
            .rules
            .iter()
            .filter(|rule| !others.rules.contains(rule));
        rules.map(|RuleId(id)| format!("{sign}{id}")).collect()
    };
    [only('-', was, is), only('+', is, was)].concat()
}

fn change(asked: &Asked, was: &Decision, is: &Decision) -> Value {
    let ids = |decision: &Decision| -> Vec<String> {
        decision.rules.iter().map(|RuleId(id)| id.clone()).collect()
    };
    json!({
        "place": asked.place,
        "namespace": asked.namespace,
        "agent": asked.request.agent.id,
        "action": asked.request.action,
        "before": was.verdict.as_str(),
        "before_reason": was.reason.as_str(),
        "before_rules": ids(was),
        "after": is.verdict.as_str(),
        "after_reason": is.reason.as_str(),
        "after_rules": ids(is),
    })
}

fn show(
    actions: u64,
    left_out: u64,
    by_rule: &[Value],
    changes: &[Value],
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if json {
        let value = json!({
            "actions": actions,
            "left_out": left_out,
            "by_rule": by_rule,
            "changes": changes,
        });
        print_json(out, &value)?;
        return Ok(Exit::Done);
    }
    print_table(out, changes)?;
    if !changes.is_empty() {
        writeln!(out)?;
        print_table(out, by_rule)?;
        writeln!(out)?;
    }
    writeln!(
        out,
        "{actions} actions, {} decided differently, {left_out} left out",
        changes.len()
    )?;
    Ok(Exit::Done)
}
