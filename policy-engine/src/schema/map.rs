//! Exact mapping of JSON to typed values: what does not fit exactly is refused, never rounded, never guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Attribute, Shape};
use crate::json::{Json, Number};
use crate::value::{Decimal, Value};

/// Fractional digits of Cedar's `decimal`.
const DECIMAL_DIGITS: u32 = 4;

/// Where JSON does not fit its shape, and what was expected there.
///
/// It names declared attributes and positions only. What was sent, names of undeclared attributes included, may be personal
/// data and does not appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// A JSON Pointer (RFC 6901) such as `/amount` or `/items/3/name`; empty for the whole document.
    pub path: String,
    /// What should have been there, such as `an integer that fits 64 bits`.
    pub expected: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, expected } = self;
        write!(f, "at `{path}`: expected {expected}")
    }
}

impl std::error::Error for Mismatch {}

impl Mismatch {
    fn here(expected: &'static str) -> Self {
        Self {
            path: String::new(),
            expected,
        }
    }

    /// The same mismatch as the enclosing value sees it.
    fn inside(self, step: &str) -> Self {
        let step = step.replace('~', "~0").replace('/', "~1");
        Self {
            path: format!("/{step}{}", self.path),
            ..self
        }
    }
}

impl Shape {
    /// The value that the JSON stands for under this shape.
    ///
    /// # Errors
    /// If it does not fit exactly: another type, a number that is not integral or needs more digits than the type has, an
    /// attribute that is missing or not declared.
    pub fn map(&self, json: &Json) -> Result<Value, Mismatch> {
        match (self, json) {
            (Self::JsonText, json) => Ok(Value::String(json.to_string())),
            (Self::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
            (Self::String, Json::String(text)) => Ok(Value::String(text.clone())),
            (Self::Long { scale }, Json::Number(number)) => map_long(*scale, number),
            (Self::Decimal, Json::Number(number)) => match number.scaled(DECIMAL_DIGITS) {
                Some(scaled) => Ok(Value::Decimal(Decimal(scaled))),
                None => Err(Mismatch::here(
                    "a number that four fractional digits hold exactly",
                )),
            },
            (Self::Set(element), Json::Array(elements)) => map_set(element, elements),
            (Self::Record(attributes), Json::Object(members)) => map_record(attributes, members),
            _ => Err(Mismatch::here(self.expectation())),
        }
    }

    fn expectation(&self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Long { .. } | Self::Decimal => "a number",
            Self::String | Self::JsonText => "a string",
            Self::Set(_) => "an array",
            Self::Record(_) => "an object",
        }
    }
}

fn map_long(scale: u32, number: &Number) -> Result<Value, Mismatch> {
    let expected = if scale == 0 {
        "an integer that fits 64 bits"
    } else {
        "a number that its scale makes an integer of 64 bits"
    };
    let long = number
        .scaled(scale)
        .ok_or_else(|| Mismatch::here(expected))?;
    Ok(Value::Long(long))
}

fn map_set(shape: &Shape, elements: &[Json]) -> Result<Value, Mismatch> {
    let elements = elements.iter().enumerate().map(|(index, element)| {
        shape
            .map(element)
            .map_err(|mismatch| mismatch.inside(&index.to_string()))
    });
    Ok(Value::Set(elements.collect::<Result<BTreeSet<_>, _>>()?))
}

fn map_record(
    attributes: &BTreeMap<String, Attribute>,
    members: &BTreeMap<String, Json>,
) -> Result<Value, Mismatch> {
    if members.keys().any(|name| !attributes.contains_key(name)) {
        return Err(Mismatch::here(
            "no attribute that the schema does not declare",
        ));
    }
    let mut record = BTreeMap::new();
    for (name, attribute) in attributes {
        let value = match members.get(name) {
            None | Some(Json::Null) if !attribute.required => continue,
            None => Err(Mismatch::here("a value, because the attribute is required")),
            Some(json) => attribute.shape.map(json),
        };
        record.insert(
            name.clone(),
            value.map_err(|mismatch| mismatch.inside(name))?,
        );
    }
    Ok(Value::Record(record))
}
