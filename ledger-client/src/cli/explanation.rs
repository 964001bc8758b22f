//! Why a request is or would be decided as it is, for people and for programs.

use std::io::Write;

use ledger_proto::v1::{self, ClauseResult, Voucher};
use serde_json::{Value, json};

use super::Failure;
use super::show::printable;

/// The explanation as JSON; the shape is in `docs/cli.md`.
pub(super) fn as_json(told: &v1::Explanation) -> Value {
    let rules = |rules: &[v1::ExplainedRule]| rules.iter().map(rule_as_json).collect::<Vec<_>>();
    let facts = told.facts.iter().map(|fact| {
        json!({
            "name": fact.name,
            "value": fact.value,
            "voucher": without(fact.voucher().as_str_name(), "VOUCHER_"),
            "voucher_id": fact.voucher_id,
            "rules": fact.rules,
        })
    });
    let history = told.history.iter().map(|counted| {
        let measured = counted.measured.iter().map(|measured| {
            json!({
                "measure": without(measured.measure().as_str_name(), "MEASURE_"),
                "action": measured.action,
                "event": measured.event,
                "window_s": measured.window_s,
                "value": measured.value,
            })
        });
        json!({
            "rule": counted.rule,
            "text": counted.text,
            "reach_s": counted.reach_s,
            "holds": counted.holds,
            "measured": measured.collect::<Vec<_>>(),
        })
    });
    json!({
        "note": told.note,
        "determining": rules(&told.determining),
        "nearest_permits": rules(&told.nearest_permits),
        "permits_held": told.permits_held,
        "permits_failed": told.permits_failed,
        "permits_elsewhere": told.permits_elsewhere,
        "facts": facts.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
        "values_withheld": told.values_withheld,
    })
}

fn rule_as_json(rule: &v1::ExplainedRule) -> Value {
    let clauses = rule.clauses.iter().map(|clause| {
        json!({
            "keyword": keyword(clause),
            "text": clause.text,
            "line": clause.line,
            "result": result(clause),
            "error": clause.error,
        })
    });
    json!({
        "rule": rule.id,
        "effect": if rule.permit { "permit" } else { "forbid" },
        "file": rule.file,
        "line": rule.line,
        "failing": rule.failing,
        "clauses": clauses.collect::<Vec<_>>(),
    })
}

/// Writes the explanation for people.
pub(super) fn print(told: &v1::Explanation, out: &mut dyn Write) -> Result<(), Failure> {
    if !told.note.is_empty() {
        writeln!(out, "  {}", shown(&told.note))?;
    }
    for rule in &told.determining {
        print_rule("decided by", rule, out)?;
    }
    for rule in &told.nearest_permits {
        print_rule("no permit:", rule, out)?;
    }
    if told.note.is_empty() {
        writeln!(
            out,
            "permits: {} held, {} failed, {} are about something else",
            told.permits_held, told.permits_failed, told.permits_elsewhere
        )?;
    }
    if !told.facts.is_empty() {
        writeln!(out, "facts read, and who vouches for them:")?;
    }
    for fact in &told.facts {
        let value = match &fact.value {
            Some(value) => format!(" = {}", shown(value)),
            None if told.values_withheld => String::new(),
            None => " is absent".to_owned(),
        };
        let who = vouches(fact.voucher(), &fact.voucher_id);
        writeln!(out, "  {}{value}: {}", shown(&fact.name), shown(&who))?;
    }
    if !told.history.is_empty() {
        writeln!(out, "history counted:")?;
    }
    for counted in &told.history {
        let is = if counted.holds { "true" } else { "false" };
        let (rule, text) = (shown(&counted.rule), shown(&counted.text));
        writeln!(out, "  {rule}: `{text}` is {is}")?;
        for measured in &counted.measured {
            writeln!(out, "    {}", shown(&figure(measured)))?;
        }
    }
    if told.values_withheld {
        writeln!(
            out,
            "values are withheld: only auditors and the agent's owner read what its sessions contain"
        )?;
    }
    Ok(())
}

fn print_rule(what: &str, rule: &v1::ExplainedRule, out: &mut dyn Write) -> Result<(), Failure> {
    let (id, file, line) = (shown(&rule.id), shown(&rule.file), rule.line);
    writeln!(out, "{what} {id} ({file}:{line})")?;
    for clause in &rule.clauses {
        let (line, keyword, text) = (clause.line, keyword(clause), shown(&clause.text));
        let result = result(clause);
        writeln!(out, "  {result:<11} {line:>4}: {keyword} {text}")?;
        if !clause.error.is_empty() {
            writeln!(out, "                    {}", shown(&clause.error))?;
        }
    }
    Ok(())
}

fn figure(measured: &v1::Measured) -> String {
    let v1::Measured {
        action,
        event,
        window_s,
        value,
        ..
    } = measured;
    let of = format!("{action}::{event} within {window_s} s");
    let is = |value: &Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    match measured.measure() {
        v1::Measure::Last => match value {
            Some(us) => format!("last {of}: at {us} us"),
            None => format!("last {of}: none"),
        },
        v1::Measure::Count => format!("count of {of}: {}", is(value)),
        v1::Measure::Sum => format!("sum over {of}: {}", is(value)),
        v1::Measure::Distinct => format!("different values in {of}: {}", is(value)),
        v1::Measure::Unspecified => of,
    }
}

/// Who vouches, in words.
fn vouches(voucher: Voucher, id: &str) -> String {
    match voucher {
        Voucher::Ledger => "the ledger".to_owned(),
        Voucher::Registry => "the registry".to_owned(),
        Voucher::Bundle => "the bundle".to_owned(),
        Voucher::Gateway => format!("the gateway {id}"),
        Voucher::Issuer => format!("the session's issuer, {id}"),
        Voucher::Agent => "only the agent".to_owned(),
        Voucher::Unspecified => "nobody".to_owned(),
    }
}

fn keyword(clause: &v1::ExplainedClause) -> &'static str {
    if clause.unless { "unless" } else { "when" }
}

fn result(clause: &v1::ExplainedClause) -> &'static str {
    match clause.result() {
        ClauseResult::Unspecified => "UNKNOWN",
        ClauseResult::Holds => "HOLDS",
        ClauseResult::Fails => "FAILS",
        ClauseResult::Errs => "ERRS",
        ClauseResult::NotReached => "NOT_REACHED",
    }
}

fn without<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// On one line, without orders to the terminal.
fn shown(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    printable(&lines.join(" "))
}
