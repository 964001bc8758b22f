//! Values as rules see them: exact, ordered, without floats.
//!
//! JSON from outside becomes a [`Value`] only under the schema of the action it was sent for; what does not fit exactly does
//! not become a value at all.

use std::collections::{BTreeMap, BTreeSet};

/// A decimal number with four fractional digits, Cedar's `decimal`: the number times 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(pub i64);

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
    Set(BTreeSet<Value>),
    /// A closed record; an optional attribute that is absent has no key
    Record(BTreeMap<String, Value>),
}
