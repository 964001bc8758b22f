//! Strict JSON: what comes from outside, before any schema gives it a type.
//!
//! Ordinary readers keep the last of two equal keys, turn numbers into floats and recurse as deep as they are told to.
//! Two replicas, or a rule and the tool behind it, could then see two different things. This reader refuses duplicate
//! keys, keeps each number as the text that was sent, bounds depth and size, and sorts members by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::{MAX_JSON_DEPTH, MAX_JSON_NODES};
use crate::text::line_at;

/// A JSON value. It may hold personal data: never print one in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string, unescaped, otherwise untouched.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object; its members' order means nothing, so they are sorted by name.
    Object(BTreeMap<String, Self>),
}

/// A number of JSON: the literal exactly as it was sent, such as `1.50` or `1e3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

/// Why bytes are not strict JSON. Says where, never what: the document may hold personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than the caller allows.
    #[error("the JSON text is longer than {limit} bytes")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("the JSON text is not UTF-8")]
    NotUtf8,
    /// Not JSON, or a string with half a surrogate pair.
    #[error("the JSON text is malformed at line {line}")]
    Malformed {
        /// The line, from 1.
        line: usize,
    },
    /// An object with two members of one name.
    #[error("an object has two members of the same name at line {line}")]
    DuplicateKey {
        /// The line on which the object begins, from 1.
        line: usize,
    },
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    #[error("the JSON text nests deeper than {MAX_JSON_DEPTH}")]
    TooDeep {
        /// The line, from 1.
        line: usize,
    },
    /// More values than [`MAX_JSON_NODES`].
    #[error("the JSON text has more than {MAX_JSON_NODES} values")]
    TooMany,
}

impl JsonError {
    /// The line, from 1, if the error is about one.
    pub fn line(self) -> Option<usize> {
        match self {
            Self::Malformed { line } | Self::DuplicateKey { line } | Self::TooDeep { line } => {
                Some(line)
            }
            Self::TooLong { .. } | Self::NotUtf8 | Self::TooMany => None,
        }
    }
}

impl Json {
    /// Reads one document of at most `max_bytes`.
    ///
    /// # Errors
    /// If the bytes are too many, not UTF-8, not JSON, nest too deep, hold too many values or repeat a member's name.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, JsonError> {
        if bytes.len() > max_bytes {
            return Err(JsonError::TooLong { limit: max_bytes });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
        // This first pass checks the grammar without recursion and without building anything.
        let root: &RawValue = serde_json::from_str(text)
            .map_err(|error| JsonError::Malformed { line: error.line() })?;
        Reader {
            text,
            left: MAX_JSON_NODES,
        }
        .value(root, 0)
    }

    /// The members, if this is an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Object(members) = self {
            Some(members)
        } else {
            None
        }
    }

    /// The elements, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self {
            Some(elements)
        } else {
            None
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The member of that name, if this is an object and has one.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }
}

/// The canonical text: no white space, members sorted by the bytes of their names, strings with the fewest escapes,
/// numbers as they were sent. Equal values give equal text.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(number.as_str()),
            Self::String(text) => write_string(f, text),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    write_string(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

impl Number {
    /// The literal, as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number times 10^`digits`, if that is exactly an integer that fits 64 bits.
    pub fn scaled(&self, digits: u32) -> Option<i64> {
        let (negative, unsigned) = match self.0.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.0.as_str()),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Some(0);
        }
        let trailing_zeros = all.len() - all.trim_end_matches('0').len();
        // The value is `significant` with this many zeros behind it; a fraction of it is left if negative.
        let zeros = exponent_of(exponent)
            .checked_add(i64::from(digits))?
            .checked_sub(i64::try_from(fraction.len()).ok()?)?
            .checked_add(i64::try_from(trailing_zeros).ok()?)?;
        let zeros = u32::try_from(zeros).ok()?;
        let magnitude: i128 = significant.parse().ok()?;
        let magnitude = magnitude.checked_mul(10_i128.checked_pow(zeros)?)?;
        i64::try_from(if negative { -magnitude } else { magnitude }).ok()
    }
}

/// The exponent, or a number so far from zero that no mantissa of a bounded text could bring it back.
fn exponent_of(text: &str) -> i64 {
    const FAR: i64 = 1 << 60;
    let negative = text.starts_with('-');
    let digits = text.trim_start_matches(['+', '-']);
    let value = match digits.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse().map_or(FAR, |value: i64| value.min(FAR)),
    };
    if negative { -value } else { value }
}

struct Reader<'a> {
    text: &'a str,
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, raw: &'a RawValue, depth: usize) -> Result<Json, JsonError> {
        let text = raw.get();
        self.left = self.left.checked_sub(1).ok_or(JsonError::TooMany)?;
        let is_nested = text.starts_with(['[', '{']);
        if is_nested && depth == MAX_JSON_DEPTH {
            return Err(JsonError::TooDeep {
                line: self.line(text),
            });
        }
        match text.as_bytes().first() {
            Some(b'{') => self.object(text, depth),
            Some(b'[') => {
                let elements: Vec<&RawValue> = self.read(text)?;
                let elements = elements.into_iter().map(|raw| self.value(raw, depth + 1));
                Ok(Json::Array(elements.collect::<Result<_, _>>()?))
            }
            Some(b'"') => Ok(Json::String(self.read(text)?)),
            Some(b't') => Ok(Json::Bool(true)),
            Some(b'f') => Ok(Json::Bool(false)),
            Some(b'n') => Ok(Json::Null),
            _ => Ok(Json::Number(Number(text.to_owned()))),
        }
    }

    fn object(&mut self, text: &'a str, depth: usize) -> Result<Json, JsonError> {
        let members: Members<'a> = self.read(text)?;
        let mut sorted = BTreeMap::new();
        for (name, raw) in members.0 {
            let value = self.value(raw, depth + 1)?;
            if sorted.insert(name, value).is_some() {
                return Err(JsonError::DuplicateKey {
                    line: self.line(text),
                });
            }
        }
        Ok(Json::Object(sorted))
    }

    fn read<T: serde::Deserialize<'a>>(&self, text: &'a str) -> Result<T, JsonError> {
        serde_json::from_str(text).map_err(|error| JsonError::Malformed {
            line: self.line(text) + error.line().saturating_sub(1),
        })
    }

    /// The line on which `part`, a slice of the document, begins.
    fn line(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        line_at(self.text, offset)
    }
}

/// The members of an object in the order they were sent, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests;
