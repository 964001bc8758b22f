//! What a replay tells: a line for each action, and verdicts and reasons by label.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::show::print_table;
use super::super::{Exit, Failure, print_json};
use super::run::Row;
use super::trace::Trace;
use crate::answer::Level;

/// One line of `--out`.
#[derive(Serialize)]
struct Line<'a> {
    /// The line of the file of actions, from 1.
    line: usize,
    index: u64,
    verdict: &'a str,
    reason: &'a str,
    rules: &'a [String],
    level: &'static str,
}

/// One JSON object on each line, in the order of the file of actions.
pub(super) fn lines(rows: &[Row]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for row in rows {
        let line = Line {
            line: row.place + 1,
            index: row.index,
            verdict: row.verdict,
            reason: row.reason,
            rules: &row.rules,
            level: row.level.name(),
        };
        serde_json::to_writer(&mut bytes, &line).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Demands that each action has one entry of its own.
pub(super) fn must_be_complete(trace: &Trace, rows: &[Row]) -> Result<(), Failure> {
    let answered = rows.iter().map(|row| row.place);
    let complete = answered.eq(0..trace.actions.len());
    let indexes: BTreeSet<u64> = rows.iter().map(|row| row.index).collect();
    if complete && indexes.len() == rows.len() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Internal,
        format!(
            "{} actions have {} answers about {} entries; each must have one of its own",
            trace.actions.len(),
            rows.len(),
            indexes.len()
        ),
    ))
}

/// Prints how often each verdict and reason was given, by label.
pub(super) fn print(
    trace: &Trace,
    rows: &[Row],
    agents: usize,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for (action, row) in trace.actions.iter().zip(rows) {
        *counts
            .entry((&action.label, row.verdict, row.reason))
            .or_default() += 1;
    }
    let counts: Vec<Value> = counts
        .into_iter()
        .map(|((label, verdict, reason), actions)| {
            json!({ "label": label, "verdict": verdict, "reason": reason, "actions": actions })
        })
        .collect();
    let recorded = rows.iter().filter(|row| row.recorded).count();
    let level = rows.iter().map(|row| row.level).min();
    let level = level.unwrap_or(Level::Committed).name();
    if json {
        return print_json(
            out,
            &json!({
                "actions": rows.len(),
                "entries": rows.len(),
                "outcomes": recorded,
                "sessions": trace.sessions.len(),
                "agents": agents,
                "level": level,
                "counts": counts,
            }),
        );
    }
    print_table(out, &counts)?;
    writeln!(
        out,
        "{} actions, {agents} agents, {} sessions: {} decisions, each with an entry of its own, {recorded} outcomes; {level}",
        rows.len(),
        trace.sessions.len(),
        rows.len(),
    )?;
    Ok(())
}
