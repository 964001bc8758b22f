//! `ledger-client policy test`: a bundle's own cases, and a diff for each step that is decided otherwise than expected.

use std::io::Write;
use std::path::Path;

use policy_engine::{CaseFailure, RuleId, run_cases};
use serde_json::{Value, json};

use super::super::{Exit, Failure, print_json};
use super::sound;

pub(super) fn test(directory: &Path, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (bundle, compiled) = sound(directory)?;
    let failures = run_cases(&compiled, &bundle);
    let cases = bundle.cases().len();
    if json {
        let failures: Vec<Value> = failures.iter().map(as_json).collect();
        print_json(out, &json!({ "cases": cases, "failures": failures }))?;
    } else {
        if !failures.is_empty() {
            writeln!(out, "--- expected\n+++ decided")?;
        }
        for failure in &failures {
            writeln!(out, "{failure}")?;
        }
        writeln!(out, "{cases} cases, {} failed steps", failures.len())?;
    }
    Ok(if failures.is_empty() {
        Exit::Done
    } else {
        Exit::Denied
    })
}

fn as_json(failure: &CaseFailure) -> Value {
    let CaseFailure {
        file,
        case,
        step,
        action,
        expected,
        actual,
    } = failure;
    let ids = |rules: &mut dyn Iterator<Item = &RuleId>| -> Vec<String> {
        rules.map(|RuleId(id)| id.clone()).collect()
    };
    json!({
        "file": file,
        "case": case,
        "step": step,
        "action": action,
        "expected": {
            "verdict": expected.verdict.as_str(),
            "reason": expected.reason.map(policy_engine::Reason::as_str),
            "rules": expected.rules.as_ref().map(|rules| ids(&mut rules.iter())),
        },
        "decided": {
            "verdict": actual.verdict.as_str(),
            "reason": actual.reason.as_str(),
            "rules": ids(&mut actual.rules.iter()),
        },
    })
}
