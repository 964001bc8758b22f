//! An entry as the command line shows it.

use ledger_proto::v1::{self, command::Body as Ask, entry::Body};
use serde_json::{Value, json};

use super::asked::asked;

/// An entry as the command line shows it. Every object has the same fields.
pub(super) fn as_json(entry: &v1::Entry) -> Value {
    let command = ledger_core::entry::command(entry).ok().flatten();
    let (mut agent, mut action) = (Value::Null, Value::Null);
    if let Some(Ask::Authorize(ask)) = command.as_ref().and_then(|command| command.body.as_ref()) {
        agent = json!(ask.agent);
        let tool = ask.tool.clone().unwrap_or_default();
        action = json!(if tool.server.is_empty() {
            tool.name
        } else {
            format!("{}/{}", tool.server, tool.name)
        });
    }
    let body = command.as_ref().and_then(|command| command.body.as_ref());
    if let Some(Ask::OpenSession(ask)) = body {
        agent = json!(ask.agent);
    }
    let (command_name, about) = match body.map(asked) {
        Some((name, about)) => (json!(name), about),
        None => (Value::Null, Value::Null),
    };
    let author = command.and_then(|command| command.author);
    let author = author.and_then(|author| ledger_core::id::Identity::parse(&author).ok());
    let (mut verdict, mut rules) = (Value::Null, json!([]));
    if let Some(Body::Decision(decision)) = &entry.body {
        verdict = short(decision.verdict().as_str_name(), "VERDICT_");
        rules = json!(decision.rules.clone().unwrap_or_default().ids);
    }
    let (kind, reason) = entry
        .body
        .as_ref()
        .map_or(("UNKNOWN", Value::Null), kind_and_reason);
    let time = i64::try_from(entry.time_us)
        .ok()
        .and_then(|time| jiff::Timestamp::from_microsecond(time).ok());
    json!({
        "index": entry.index,
        "time": time.map(|time| time.to_string()),
        "kind": kind,
        "command": command_name,
        "about": about,
        "author": author.map(|author| author.to_text()),
        "agent": agent,
        "action": action,
        "verdict": verdict,
        "reason": reason,
        "rules": rules,
        "session": ledger_core::entry::session(entry).map(|id| hex::encode(id.to_vec())),
    })
}

/// The kind of an answer, and why it is what it is; for an outcome its drift.
fn kind_and_reason(body: &Body) -> (&'static str, Value) {
    match body {
        Body::Genesis(_) => ("GENESIS", Value::Null),
        Body::Decision(decision) => {
            let reason = decision.reason().as_str_name();
            ("DECISION", short(reason, "DECISION_REASON_"))
        }
        Body::Outcome(outcome) => {
            let drift = outcome.drift();
            let drift = drift.map(|drift| short(drift.as_str_name(), "DRIFT_"));
            ("OUTCOME", json!(drift.collect::<Vec<_>>()))
        }
        Body::Redemption(redemption) => {
            let reason = redemption.reason().as_str_name();
            ("REDEMPTION", short(reason, "REDEMPTION_REASON_"))
        }
        Body::SessionOpening(opening) => ("SESSION_OPENING", result(opening.result())),
        Body::SessionEnd(end) => ("SESSION_END", result(end.result())),
        Body::Governance(governance) => ("GOVERNANCE", result(governance.result())),
    }
}

fn result(result: v1::Result) -> Value {
    short(result.as_str_name(), "RESULT_")
}

fn short(name: &'static str, prefix: &str) -> Value {
    json!(name.strip_prefix(prefix).unwrap_or(name))
}
