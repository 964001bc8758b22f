//! What verification found: each fact with who vouches for it.

use std::fmt;

use serde::Serialize;

/// Who vouches for a fact, from the strongest to the weakest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "who")]
pub enum Basis {
    /// The verifier computed it: a signature, a hash, a proof.
    Verified,
    /// The ledger's quorum: it is in an entry under the checkpoint, at this leaf.
    Ledger(u64),
    /// An identity other than the agent said so in a signed command.
    Asserted(String),
    /// Only the agent itself says so.
    Claimed(String),
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("verified here"),
            Self::Ledger(leaf) => write!(f, "ledger entry {leaf}"),
            Self::Asserted(who) => write!(f, "asserted by {who}"),
            Self::Claimed(who) => write!(f, "claimed by {who}"),
        }
    }
}

/// A time of the ledger as people read it, for instance `2026-11-23T12:00:00.000001Z`.
#[must_use]
pub fn utc(time_us: u64) -> String {
    let time = i64::try_from(time_us)
        .ok()
        .and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(
        || format!("{time_us} µs since 1970"),
        |time| time.to_string(),
    )
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about, one or two words, for instance `agent`.
    pub name: &'static str,
    /// What holds, in words.
    pub value: String,
    /// Who vouches for it.
    pub basis: Basis,
}

/// Everything that evidence proves, in the order in which one explains it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The facts.
    pub facts: Vec<Fact>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, value: impl Into<String>, basis: Basis) {
        self.facts.push(Fact {
            name,
            value: value.into(),
            basis,
        });
    }

    /// The value of the first fact of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|fact| fact.name == name)
            .map(|fact| fact.value.as_str())
    }
}

/// Text that cannot repaint a terminal: control characters other than line ends, and characters that change the direction of
/// what follows, are spelled out.
fn printable(text: &str) -> String {
    let is_spelled_out = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if is_spelled_out(c) {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fact in &self.facts {
            let value = printable(&fact.value);
            let mut lines = value.lines();
            writeln!(
                f,
                "{:<14} {}  ({})",
                fact.name,
                lines.next().unwrap_or_default(),
                fact.basis
            )?;
            for line in lines {
                writeln!(f, "{:<14} {line}", "")?;
            }
        }
        Ok(())
    }
}
