//! `ledger-client policy explain`: why a bundle decides a request as it does, without a ledger.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger_core::explanation::to_message;
use policy_engine::{Bundle, Case, RuleId, SourceFile, StepKind, Verdict, explain_step};
use serde_json::json;

use super::super::argument::text;
use super::super::show::printable;
use super::super::{Exit, Failure, explanation, print_json};
use super::sound;

/// Longest file of cases.
const MAX_CASES_LEN: u64 = 8 * 1024 * 1024;

/// One request of a case, decided after the steps before it.
#[derive(Debug, Args)]
pub(in super::super) struct Explain {
    /// The bundle's directory.
    bundle: PathBuf,
    /// A file of cases as `tests/*.json` has them, in which `expect` may be missing; `-` reads standard input. Default: the
    /// bundle's own cases.
    #[arg(long, value_name = "FILE")]
    cases: Option<String>,
    /// The name of the case, unless there is only one.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// The number of the step that requests, from 0. Default: the last request of the case.
    #[arg(long, value_name = "NUMBER")]
    step: Option<usize>,
}

pub(super) fn explain(
    arguments: &Explain,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let (bundle, compiled) = sound(&arguments.bundle)?;
    let outside = arguments.cases.as_deref().map(read).transpose()?;
    let case = chosen(arguments, &bundle, outside.as_deref())?;
    let is_request = |index: &usize| {
        let step = case.steps.get(*index);
        step.is_some_and(|step| matches!(step.kind, StepKind::Request { .. }))
    };
    let step = match arguments.step {
        Some(step) => Some(step).filter(is_request),
        None => (0..case.steps.len()).rev().find(is_request),
    };
    let told = step.and_then(|step| Some((step, explain_step(&compiled, case, step)?)));
    let Some((step, told)) = told else {
        let what = format!("case \"{}\" requests nothing there", case.name);
        return Err(Failure::new(Exit::Usage, what));
    };
    let decision = &told.decision;
    let rules: Vec<&str> = decision
        .rules
        .iter()
        .map(|RuleId(id)| id.as_str())
        .collect();
    let (verdict, reason) = (decision.verdict.as_str(), decision.reason.as_str());
    let message = to_message(&told);
    if json {
        let value = json!({
            "case": case.name,
            "step": step,
            "verdict": verdict,
            "reason": reason,
            "rules": rules,
            "explanation": explanation::as_json(&message),
        });
        print_json(out, &value)?;
    } else {
        writeln!(out, "{}, step {step}", printable(&case.name))?;
        let by = if rules.is_empty() {
            String::new()
        } else {
            format!(" by {}", rules.join(", "))
        };
        writeln!(out, "{verdict}: {reason}{}", printable(&by))?;
        explanation::print(&message, out)?;
    }
    Ok(match decision.verdict {
        Verdict::Allow => Exit::Done,
        Verdict::Escalate => Exit::Escalated,
        Verdict::Deny => Exit::Denied,
    })
}

fn read(file: &str) -> Result<Vec<Case>, Failure> {
    let argument = match file {
        "-" => "-".to_owned(),
        path => format!("@{path}"),
    };
    let bytes = text(&argument, MAX_CASES_LEN)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Configuration, format!("{file} is not UTF-8")))?;
    let path = file.to_owned();
    Case::read_all(&SourceFile { path, text })
        .map_err(|finding| Failure::new(Exit::Configuration, finding.to_string()))
}

/// The case that is meant.
fn chosen<'a>(
    arguments: &Explain,
    bundle: &'a Bundle,
    outside: Option<&'a [Case]>,
) -> Result<&'a Case, Failure> {
    let cases = outside.unwrap_or_else(|| bundle.cases());
    let found = match &arguments.case {
        Some(name) => cases.iter().find(|case| case.name == *name),
        None => cases.first().filter(|_| cases.len() == 1),
    };
    found.ok_or_else(|| {
        let names: Vec<String> = cases
            .iter()
            .map(|case| format!("\"{}\"", case.name))
            .collect();
        let what = match names.as_slice() {
            [] => "there is no case; name a file of them with --cases".to_owned(),
            names => format!("name one of the cases with --case: {}", names.join(", ")),
        };
        Failure::new(Exit::Usage, what)
    })
}
