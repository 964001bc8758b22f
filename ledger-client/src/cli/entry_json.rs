//! An entry as the command line shows it.

use ledger_proto::v1::{self, command::Body as Ask, entry::Body};
use serde_json::{Value, json};

use super::asked::asked;

/// An entry as the command line shows it. Every object has the same fields.
pub(super) fn as_json(entry: &v1::Entry) -> Value {
    let command = ledger_core::entry::command(entry).ok().flatten();
    let body = command.as_ref().and_then(|command| command.body.as_ref());
    let (agent, action) = agent_and_action(body);
    let (command_name, about) = match body.map(asked) {
        Some((name, about)) => (json!(name), about),
        None => (Value::Null, Value::Null),
    };
    let author = command.and_then(|command| command.author);
    let author = author.and_then(|author| ledger_core::id::Identity::parse(&author).ok());
    let short = |name: &'static str, prefix: &str| json!(name.strip_prefix(prefix).unwrap_or(name));
    let (mut verdict, mut reason, mut rules) = (Value::Null, Value::Null, json!([]));
    let kind = match &entry.body {
        Some(Body::Genesis(_)) => "GENESIS",
        Some(Body::Decision(decision)) => {
            verdict = short(decision.verdict().as_str_name(), "VERDICT_");
            reason = short(decision.reason().as_str_name(), "DECISION_REASON_");
            rules = json!(decision.rules.clone().unwrap_or_default().ids);
            "DECISION"
        }
        Some(Body::Outcome(outcome)) => {
            let drift = outcome
                .drift()
                .map(|drift| short(drift.as_str_name(), "DRIFT_"));
            reason = json!(drift.collect::<Vec<_>>());
            "OUTCOME"
        }
        Some(Body::Redemption(redemption)) => {
            reason = short(redemption.reason().as_str_name(), "REDEMPTION_REASON_");
            "REDEMPTION"
        }
        Some(Body::SessionOpening(opening)) => {
            reason = short(opening.result().as_str_name(), "RESULT_");
            "SESSION_OPENING"
        }
        Some(Body::SessionEnd(end)) => {
            reason = short(end.result().as_str_name(), "RESULT_");
            "SESSION_END"
        }
        Some(Body::Governance(governance)) => {
            reason = short(governance.result().as_str_name(), "RESULT_");
            "GOVERNANCE"
        }
        None => "UNKNOWN",
    };
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

/// The agent that a command is about, and the action that it asks for; null where it names none.
fn agent_and_action(body: Option<&Ask>) -> (Value, Value) {
    if let Some(Ask::Authorize(ask)) = body {
        let tool = ask.tool.clone().unwrap_or_default();
        let action = if tool.server.is_empty() {
            tool.name
        } else {
            format!("{}/{}", tool.server, tool.name)
        };
        return (json!(ask.agent), json!(action));
    }
    match body {
        Some(Ask::OpenSession(ask)) => (json!(ask.agent), Value::Null),
        Some(_) | None => (Value::Null, Value::Null),
    }
}
