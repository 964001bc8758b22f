//! What a cell remembers: which events, compared how, within which window.

use dogwood_language::Value as Dogwood;

use crate::evaluate::context::value_for_dogwood;
use crate::evaluate::names::{AGENT, GATEWAY, RESOURCE};
use crate::history::records::CellId;
use crate::history::series::Measure;
use crate::history::{Event, EventKind};
use crate::value::Value;

const CELL_DOMAIN: &[u8] = b"countersign-cell-v1\0";
const VALUES_DOMAIN: &[u8] = b"countersign-values-v1\0";

/// A value that the request at hand supplies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `context.…`
    Context(Vec<String>),
    /// `principal…` or `resource…`
    Scope(Vec<String>),
}

/// Events of one action and kind whose fields are as compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) action: String,
    pub(crate) kind: EventKind,
    /// Fields that must have this value.
    pub(crate) fixed: Vec<(Vec<String>, Dogwood)>,
    /// Fields that must be there.
    pub(crate) present: Vec<Vec<String>>,
    /// Fields that must have the value which the request supplies.
    pub(crate) asked: Vec<(Vec<String>, Asked)>,
}

/// What of the matching events is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The last one.
    Last,
    /// How many.
    Count,
    /// The sum of a field.
    Sum(Vec<String>),
    /// The different values of a field.
    Distinct(Vec<String>),
}

/// A cell, and how it is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) id: CellId,
    pub(crate) pattern: Pattern,
    pub(crate) keep: Keep,
    pub(crate) window_ns: i64,
}

impl Keep {
    pub(crate) const fn measure(&self) -> Option<Measure> {
        match self {
            Self::Last => None,
            Self::Count => Some(Measure::Count),
            Self::Sum(_) => Some(Measure::Sum),
            Self::Distinct(_) => Some(Measure::Distinct),
        }
    }

    /// The entry of an event in a series; none if the event has none.
    pub(crate) fn entry(&self, event: &Event) -> Option<Vec<u8>> {
        match self {
            Self::Last | Self::Count => Some(Vec::new()),
            Self::Sum(path) => {
                // A row that is no number adds nothing, as Dogwood has it.
                let number = if let Dogwood::Int(number) = field(event, path)? {
                    number
                } else {
                    0
                };
                Some(number.to_be_bytes().to_vec())
            }
            Self::Distinct(path) => Some(digest(&[field(event, path)?]).to_vec()),
        }
    }
}

impl Spec {
    pub(crate) fn new(pattern: Pattern, keep: Keep, window_ns: i64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CELL_DOMAIN);
        hasher.update(&window_ns.to_be_bytes());
        let (tag, measured) = match &keep {
            Keep::Last => (0, None),
            Keep::Count => (1, None),
            Keep::Sum(path) => (2, Some(path)),
            Keep::Distinct(path) => (3, Some(path)),
        };
        hasher.update(&[tag]);
        path(&mut hasher, measured.map_or(&[], Vec::as_slice));
        text(&mut hasher, &pattern.action);
        text(&mut hasher, pattern.kind.as_str());
        hasher.update(&(pattern.fixed.len() as u64).to_be_bytes());
        for (name, value) in &pattern.fixed {
            path(&mut hasher, name);
            self::value(&mut hasher, value);
        }
        hasher.update(&(pattern.present.len() as u64).to_be_bytes());
        pattern
            .present
            .iter()
            .for_each(|name| path(&mut hasher, name));
        hasher.update(&(pattern.asked.len() as u64).to_be_bytes());
        pattern
            .asked
            .iter()
            .for_each(|(name, _)| path(&mut hasher, name));
        Self {
            id: shortened(&hasher),
            pattern,
            keep,
            window_ns,
        }
    }
}

impl Pattern {
    /// True if the event matches, apart from what the request supplies.
    pub(crate) fn is_like(&self, event: &Event) -> bool {
        self.kind == event.kind
            && self.action == event.action
            && self
                .fixed
                .iter()
                .all(|(path, value)| field(event, path).is_some_and(|found| value.dom_eq(&found)))
            && self.present.iter().all(|path| field(event, path).is_some())
    }

    /// The values of the event that a request's are compared with; none if one is missing.
    pub(crate) fn values_of(&self, event: &Event) -> Option<[u8; 16]> {
        if self.asked.is_empty() {
            return Some([0; 16]);
        }
        let values = self.asked.iter().map(|(path, _)| field(event, path));
        Some(digest(&values.collect::<Option<Vec<_>>>()?))
    }
}

/// A field of an event, as Dogwood names it.
pub(crate) fn field(event: &Event, path: &[String]) -> Option<Dogwood> {
    let (head, rest) = path.split_first()?;
    let entity = |ty: &str, id: &str| Dogwood::Entity {
        ty: ty.to_owned(),
        id: id.to_owned(),
    };
    let scalar = match head.as_str() {
        "input" => return within(&event.input, rest),
        "output" => return within(event.output.as_ref()?, rest),
        "requestId" => Dogwood::String(event.request_id.clone()),
        "sessionId" => Dogwood::String(event.session_id.clone()),
        "callerPrincipal" => entity(AGENT, &event.agent),
        "callerResource" => entity(RESOURCE, &event.resource),
        "recorder" => match &event.recorder {
            Some(gateway) => entity(GATEWAY, gateway),
            None if event.kind.is_outcome() => entity(AGENT, &event.agent),
            None => return None,
        },
        _ => return None,
    };
    rest.is_empty().then_some(scalar)
}

/// The part of a value that a path leads to.
pub(crate) fn within(value: &Value, path: &[String]) -> Option<Dogwood> {
    let mut at = value;
    for name in path {
        let Value::Record(fields) = at else {
            return None;
        };
        at = fields.get(name)?;
    }
    Some(value_for_dogwood(at))
}

/// A digest of values: equal exactly if Dogwood holds them for equal.
pub(crate) fn digest(values: &[Dogwood]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(VALUES_DOMAIN);
    values
        .iter()
        .for_each(|value| self::value(&mut hasher, value));
    shortened(&hasher)
}

fn shortened(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_be_bytes());
    hasher.update(text.as_bytes());
}

fn path(hasher: &mut blake3::Hasher, path: &[String]) {
    hasher.update(&(path.len() as u64).to_be_bytes());
    path.iter().for_each(|name| text(hasher, name));
}

fn value(hasher: &mut blake3::Hasher, value: &Dogwood) {
    match value {
        Dogwood::Null => {
            hasher.update(&[0]);
        }
        Dogwood::Bool(value) => {
            hasher.update(&[1, u8::from(*value)]);
        }
        Dogwood::Int(number) => {
            hasher.update(&[2]);
            hasher.update(&number.to_be_bytes());
        }
        Dogwood::Decimal(number) => {
            hasher.update(&[3]);
            text(hasher, &canonical(number).unwrap_or_else(|| number.clone()));
        }
        Dogwood::String(string) => {
            hasher.update(&[4]);
            text(hasher, string);
        }
        Dogwood::Entity { ty, id } => {
            hasher.update(&[5]);
            text(hasher, ty);
            text(hasher, id);
        }
        Dogwood::Array(items) => {
            hasher.update(&[6]);
            hasher.update(&(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| self::value(hasher, item));
        }
        Dogwood::Object(fields) => {
            hasher.update(&[7]);
            hasher.update(&(fields.len() as u64).to_be_bytes());
            for (name, field) in fields {
                text(hasher, name);
                self::value(hasher, field);
            }
        }
    }
}

/// A decimal in the one form that all of its spellings have here; none if it is no decimal of Cedar's.
fn canonical(decimal: &str) -> Option<String> {
    let (whole, fraction) = decimal.split_once('.')?;
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(digits) || !is_number(fraction) || fraction.len() > 4 {
        return None;
    }
    let magnitude: i128 = format!("{digits}{fraction:0<4}").parse().ok()?;
    let signed = if digits.len() < whole.len() {
        -magnitude
    } else {
        magnitude
    };
    Some(crate::value::Decimal(i64::try_from(signed).ok()?).to_string())
}
