//! The types of a bundle's actions: what their arguments and outputs must look like before any rule sees them.
//!
//! Dogwood checks nothing at run time: a missing argument makes a rule err, and an erring forbid is skipped. So the engine
//! itself types every argument first, under the [`Shape`] that the schema gives the action, and denies what does not fit.

use std::collections::BTreeMap;

mod action;
mod map;
mod resolve;
mod template;

pub(crate) use action::{JSON, SCALE};
pub use map::Mismatch;
pub(crate) use template::NAMESPACE;
pub use template::TEMPLATE;

/// The type of an argument, an output, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `Bool`
    Bool,
    /// `Long`, in units of 10^-`scale`: with `@countersign_scale("2")` JSON's `12.5` becomes 1250.
    Long {
        /// Decimal digits that the number is shifted by, 0 to 18.
        scale: u32,
    },
    /// `decimal`: at most four fractional digits
    Decimal,
    /// `String`
    String,
    /// `String` with `@countersign_json`: any JSON, as canonical text. For what Cedar has no type for.
    JsonText,
    /// `Set<T>`
    Set(Box<Self>),
    /// A closed record: attributes by name
    Record(BTreeMap<String, Attribute>),
}

/// An attribute of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its type.
    pub shape: Shape,
    /// False if it may be absent; `null` is then as good as absent.
    pub required: bool,
}

/// The types of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionSchema {
    /// Of `context.input`: always a [`Shape::Record`].
    pub input: Shape,
    /// Of `context.output`, if the schema declares one: always a [`Shape::Record`].
    pub output: Option<Shape>,
}

/// The types of all actions that can be requested, by action id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shapes {
    actions: BTreeMap<String, ActionSchema>,
}

impl Shapes {
    /// The types of the action with that id (`server/name` or `name`); none if it cannot be requested.
    pub fn get(&self, action: &str) -> Option<&ActionSchema> {
        self.actions.get(action)
    }

    /// All actions that can be requested, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ActionSchema)> {
        self.actions
            .iter()
            .map(|(id, schema)| (id.as_str(), schema))
    }
}

#[cfg(test)]
mod tests;
