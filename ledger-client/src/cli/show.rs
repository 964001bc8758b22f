//! How values are read from and shown to people.

use std::io::Write;

use ledger_proto::v1;
use serde_json::Value;

use super::{Exit, Failure};
pub(super) use crate::printable::printable;

/// `NAME=VALUE` pairs as attributes, ascending.
pub(super) fn attributes(given: &[String]) -> Result<Vec<v1::Attribute>, Failure> {
    let mut attributes = Vec::with_capacity(given.len());
    for pair in given {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::new(
                Exit::Usage,
                format!("`{pair}` is not NAME=VALUE"),
            ));
        };
        attributes.push(v1::Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(attributes)
}

/// `NAME=VALUE` pairs as sets of strings: a repeated name adds a value. Ascending.
pub(super) fn string_sets(given: &[String]) -> Result<Vec<v1::StringSet>, Failure> {
    let mut sets: Vec<v1::StringSet> = Vec::new();
    for attribute in attributes(given)? {
        match sets.last_mut() {
            Some(last) if last.name == attribute.name => last.values.push(attribute.value),
            Some(_) | None => sets.push(v1::StringSet {
                name: attribute.name,
                values: vec![attribute.value],
            }),
        }
    }
    for set in &mut sets {
        set.values.sort();
        set.values.dedup();
    }
    Ok(sets)
}

/// A status as people write it.
pub(super) const fn status_name(status: v1::IdentityStatus) -> &'static str {
    match status {
        v1::IdentityStatus::Unspecified => "UNKNOWN",
        v1::IdentityStatus::Active => "ACTIVE",
        v1::IdentityStatus::Suspended => "SUSPENDED",
        v1::IdentityStatus::Revoked => "REVOKED",
    }
}

/// Objects of one shape as aligned columns. What comes from a ledger can hold control characters, which would be orders to the
/// terminal; they are shown as what they are.
pub(super) fn print_table(out: &mut dyn Write, rows: &[Value]) -> Result<(), Failure> {
    let Some(names) = rows.first().and_then(Value::as_object) else {
        return Ok(());
    };
    let names: Vec<&String> = names.keys().collect();
    let mut lines = vec![
        names
            .iter()
            .map(|name| name.to_uppercase())
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let cell = |name: &&String| plain(row.get(name.as_str()).unwrap_or(&Value::Null));
        lines.push(names.iter().map(cell).collect());
    }
    let mut widths = vec![0; names.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let gap = width.saturating_sub(cell.chars().count()) + 2;
            text.push_str(cell);
            text.push_str(&" ".repeat(gap));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    };
    printable(&text)
}
