//! The canonical bytes of a value: one value, one encoding, so that equal histories are equal bytes on every replica.
//!
//! A tag byte, then: nothing for `false` (0) and `true` (1); eight bytes for `Long` (2) and `decimal` (3); length and UTF-8
//! for `String` (4); count and elements, strictly ascending, for `Set` (5); count and name-value pairs, names strictly
//! ascending, for a record (6). Numbers are big-endian, lengths and counts 32 bits. The order of elements is that of
//! [`Value`]'s `Ord`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decimal, Value};
use crate::limits::{MAX_JSON_DEPTH, MAX_VALUE_BYTES};

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const LONG: u8 = 2;
const DECIMAL: u8 = 3;
const STRING: u8 = 4;
const SET: u8 = 5;
const RECORD: u8 = 6;

/// Why bytes are not the encoding of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`MAX_VALUE_BYTES`].
    #[error("the encoded value is longer than {MAX_VALUE_BYTES} bytes")]
    TooLong,
    /// It ends too early.
    #[error("the encoded value is cut short")]
    CutShort,
    /// Bytes follow it.
    #[error("bytes follow the encoded value")]
    TrailingBytes,
    /// No value has this tag.
    #[error("the encoded value has an unknown tag")]
    UnknownTag,
    /// A string is not UTF-8.
    #[error("the encoded value has a string that is not UTF-8")]
    NotUtf8,
    /// Elements or attributes are not strictly ascending.
    #[error("the encoded value has elements or attributes out of order")]
    OutOfOrder,
    /// Sets and records nest deeper than JSON's limit.
    #[error("the encoded value nests deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
}

impl Value {
    /// The canonical bytes. They decode again if the value nests at most [`MAX_JSON_DEPTH`] deep and they number at most
    /// [`MAX_VALUE_BYTES`], which holds for every value that a shape made from JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(self, &mut bytes);
        bytes
    }

    /// Reads canonical bytes. Whatever it accepts encodes to the same bytes again.
    ///
    /// # Errors
    /// If the bytes are anything but the one encoding of a value.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(DecodeError::TooLong);
        }
        let mut decoder = Decoder { rest: bytes };
        let value = decoder.value(0)?;
        if decoder.rest.is_empty() {
            Ok(value)
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Long(number) | Value::Decimal(Decimal(number)) => {
            let is_long = matches!(value, Value::Long(_));
            out.push(if is_long { LONG } else { DECIMAL });
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::String(text) => {
            out.push(STRING);
            encode_text(text, out);
        }
        Value::Set(elements) => {
            out.push(SET);
            encode_length(elements.len(), out);
            elements.iter().for_each(|element| encode(element, out));
        }
        Value::Record(attributes) => {
            out.push(RECORD);
            encode_length(attributes.len(), out);
            for (name, value) in attributes {
                encode_text(name, out);
                encode(value, out);
            }
        }
    }
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    encode_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// A length past 32 bits cannot occur: inputs are a million times smaller. It would be written as a length that no decoder
/// accepts.
fn encode_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let [tag] = self.array()?;
        if matches!(tag, SET | RECORD) && depth == MAX_JSON_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match tag {
            FALSE => Ok(Value::Bool(false)),
            TRUE => Ok(Value::Bool(true)),
            LONG => Ok(Value::Long(i64::from_be_bytes(self.array()?))),
            DECIMAL => Ok(Value::Decimal(Decimal(i64::from_be_bytes(self.array()?)))),
            STRING => Ok(Value::String(self.text()?)),
            SET => self.set(depth),
            RECORD => self.record(depth),
            _ => Err(DecodeError::UnknownTag),
        }
    }

    fn set(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let mut elements = BTreeSet::new();
        for _ in 0..self.length()? {
            let element = self.value(depth + 1)?;
            if elements.last().is_some_and(|last| *last >= element) {
                return Err(DecodeError::OutOfOrder);
            }
            elements.insert(element);
        }
        Ok(Value::Set(elements))
    }

    fn record(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let mut attributes = BTreeMap::new();
        for _ in 0..self.length()? {
            let name = self.text()?;
            if attributes
                .last_key_value()
                .is_some_and(|(last, _)| *last >= name)
            {
                return Err(DecodeError::OutOfOrder);
            }
            let value = self.value(depth + 1)?;
            attributes.insert(name, value);
        }
        Ok(Value::Record(attributes))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.length()?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::NotUtf8)?;
        Ok(text.to_owned())
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| DecodeError::TooLong)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::CutShort)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
