//! Values as rules see them: exact, ordered, without floats.
//!
//! JSON from outside becomes a [`Value`] only under the schema of the action it was sent for; what does not fit exactly does
//! not become a value at all. Retained history stores values in the canonical bytes defined here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod codec;

pub use codec::DecodeError;

/// A decimal number with four fractional digits, Cedar's `decimal`: the number times 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(pub i64);

/// Cedar's notation, such as `-12.3400`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:04}", magnitude / 10_000, magnitude % 10_000)
    }
}

/// A value of one of the types that a countersign schema can give to an argument.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `Bool`
    Bool(bool),
    /// `Long`: 64 bits, signed
    Long(i64),
    /// `decimal`
    Decimal(Decimal),
    /// `String`; compared byte by byte, never normalized
    String(String),
    /// `Set<T>`
    Set(BTreeSet<Self>),
    /// A closed record; an optional attribute that is absent has no key
    Record(BTreeMap<String, Self>),
}
