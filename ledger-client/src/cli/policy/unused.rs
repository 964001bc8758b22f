//! `ledger-client policy unused`: what of a bundle nobody needed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use policy_engine::{Rehearsal, RuleUse, Usage};
use serde_json::{Value, json};

use super::super::show::print_table;
use super::super::{Exit, Failure, print_json};
use super::by_namespace;
use super::past::{Past, Source, Step};

#[derive(Debug, Args)]
pub(in crate::cli) struct Unused {
    /// A bundle, or a folder of bundles named by the suites of a file or the namespaces of a ledger.
    bundle: PathBuf,
    #[command(flatten)]
    source: Source,
}

pub(super) fn unused(unused: &Unused, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let past = Past::read(&unused.source)?;
    let bundles = by_namespace(&unused.bundle, &past.namespaces())?;
    let mut running: BTreeMap<&str, (Rehearsal<'_>, Usage)> = BTreeMap::new();
    for (name, (_, compiled)) in &bundles {
        running.insert(name, (Rehearsal::new(compiled), Usage::default()));
    }
    let mut actions = 0_u64;
    for step in &past.steps {
        match step {
            Step::Asked(asked) => {
                if let Some((rehearsal, usage)) = running.get_mut(asked.namespace.as_str()) {
                    actions += 1;
                    let decision = rehearsal.ask(asked.request.clone());
                    usage.add(&asked.request.action, &decision);
                }
            }
            Step::Ended(ended) => {
                if let Some((rehearsal, _)) = running.get_mut(ended.namespace.as_str()) {
                    ended.tell(rehearsal);
                }
            }
        }
    }
    let (mut rules, mut scopes) = (Vec::new(), Vec::new());
    for (name, (_, usage)) in &running {
        let Some((_, compiled)) = bundles.get(*name) else {
            continue;
        };
        let report = usage.report(compiled);
        rules.extend(report.rules.iter().map(|rule| row(name, rule)));
        scopes.push(json!({
            "namespace": name,
            "scope": report.scope,
            "unused_actions": report.unused_actions,
        }));
    }
    if json {
        let value = json!({
            "actions": actions,
            "left_out": past.left_out,
            "rules": rules,
            "namespaces": scopes,
        });
        print_json(out, &value)?;
        return Ok(Exit::Done);
    }
    print_table(out, &rules)?;
    writeln!(out)?;
    print_table(out, &scopes)?;
    writeln!(out)?;
    let never = rules.iter().filter(|rule| rule["decisions"] == 0).count();
    writeln!(
        out,
        "{actions} actions, {never} of {} rules never determined a decision, {} left out",
        rules.len(),
        past.left_out
    )?;
    Ok(Exit::Done)
}

fn row(namespace: &str, rule: &RuleUse) -> Value {
    json!({
        "namespace": namespace,
        "rule": rule.id.0,
        "file": rule.source.path,
        "line": rule.source.line,
        "decisions": rule.decisions,
        "scope": rule.scope,
    })
}
