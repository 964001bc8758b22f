//! Reading an object member by member, so that a member nobody asked for is found.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::Json;
use crate::limits::MAX_CASE_FACTS_BYTES;
use crate::request::StringSets;

/// What is wrong with a test case, and where (a JSON Pointer).
pub(super) struct Wrong {
    pub(super) at: String,
    pub(super) message: String,
}

impl Wrong {
    pub(super) fn new(at: &str, message: impl Into<String>) -> Self {
        Self {
            at: at.to_owned(),
            message: message.into(),
        }
    }
}

/// The members of an object that nobody has asked for yet.
pub(super) struct Fields<'a> {
    at: String,
    left: BTreeMap<&'a str, &'a Json>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(at: &str, json: &'a Json) -> Result<Self, Wrong> {
        let members = json
            .as_object()
            .ok_or_else(|| Wrong::new(at, "it is not an object"))?;
        Ok(Self {
            at: at.to_owned(),
            left: members
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .collect(),
        })
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a Json> {
        self.left.remove(name)
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Wrong> {
        let at = format!("{}/{name}", self.at);
        let Some(json) = self.take(name) else {
            return Ok(None);
        };
        if json.to_string().len() > MAX_CASE_FACTS_BYTES {
            let message = format!("it is longer than {MAX_CASE_FACTS_BYTES} bytes");
            return Err(Wrong::new(&at, message));
        }
        Self::of(&at, json).map(Some)
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a Json) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Wrong> {
        let wrong = |expected| Wrong::new(&self.at, format!("`{name}` is not {expected}"));
        self.left
            .remove(name)
            .map(|json| read(json).map_err(wrong))
            .transpose()
    }

    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a Json) -> Result<T, &'static str>,
    ) -> Result<T, Wrong> {
        let value = self.optional(name, read)?;
        value.ok_or_else(|| Wrong::new(&self.at, format!("`{name}` is missing")))
    }

    pub(super) fn end(self) -> Result<(), Wrong> {
        match self.left.keys().next() {
            Some(name) => Err(Wrong::new(
                &self.at,
                format!("there is no member `{}`", name.escape_debug()),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn array(json: &'a Json) -> Result<&'a [Json], &'static str> {
        json.as_array().ok_or("an array")
    }

    pub(super) fn string(json: &Json) -> Result<String, &'static str> {
        json.as_str().map(str::to_owned).ok_or("a string")
    }

    pub(super) fn boolean(json: &Json) -> Result<bool, &'static str> {
        if let Json::Bool(value) = json {
            Ok(*value)
        } else {
            Err("a boolean")
        }
    }

    pub(super) fn seconds(json: &Json) -> Result<u64, &'static str> {
        const EXPECTED: &str = "a number of whole seconds, 0 or more";
        let Json::Number(number) = json else {
            return Err(EXPECTED);
        };
        number
            .scaled(0)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .ok_or(EXPECTED)
    }

    pub(super) fn index(json: &Json) -> Result<usize, &'static str> {
        const EXPECTED: &str = "a whole number, 0 or more";
        let Json::Number(number) = json else {
            return Err(EXPECTED);
        };
        number
            .scaled(0)
            .and_then(|index| usize::try_from(index).ok())
            .ok_or(EXPECTED)
    }

    pub(super) fn count(json: &Json) -> Result<u32, &'static str> {
        u32::try_from(Self::index(json)?).map_err(|_| "so small a number")
    }

    pub(super) fn counts(json: &Json) -> Result<BTreeMap<String, u32>, &'static str> {
        const EXPECTED: &str = "an object of whole numbers";
        let members = json.as_object().ok_or(EXPECTED)?.iter();
        members
            .map(|(name, value)| Ok((name.clone(), Self::count(value).map_err(|_| EXPECTED)?)))
            .collect()
    }

    pub(super) fn strings(json: &Json) -> Result<BTreeSet<String>, &'static str> {
        let strings = json
            .as_array()
            .ok_or("an array of strings")?
            .iter()
            .map(Self::string);
        strings
            .collect::<Result<_, _>>()
            .map_err(|_| "an array of strings")
    }

    pub(super) fn string_map(json: &Json) -> Result<BTreeMap<String, String>, &'static str> {
        let members = json.as_object().ok_or("an object")?;
        let members = members
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        members.collect::<Option<_>>().ok_or("an object of strings")
    }

    pub(super) fn string_sets(json: &Json) -> Result<StringSets, &'static str> {
        let members = json.as_object().ok_or("an object")?;
        let members = members
            .iter()
            .map(|(name, value)| Some((name.clone(), Self::strings(value).ok()?)));
        members
            .collect::<Option<_>>()
            .ok_or("an object of arrays of strings")
    }
}
