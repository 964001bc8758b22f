//! The identity of a temporal rule's meaning.
//!
//! A rule keeps its history across a change of bundle exactly if its fingerprint stays. So it covers all that decides what the
//! history means to the rule, and nothing else: its id, its own text with macros written out (as Dogwood's parser prints it,
//! so that layout and comments do not matter), whose past it reads, and the types of the actions that it reads. Renaming a
//! file, adding a rule or typing another action changes nothing.

use std::collections::BTreeSet;

use crate::bundle::HistoryScope;
use crate::history::Fingerprint;
use crate::history::reads::Reads;
use crate::schema::{Shape, Shapes};

const CONTEXT: &[u8] = b"countersign-rule-v1\0";

pub(super) fn of(
    id: &str,
    printed: &str,
    scope: HistoryScope,
    reads: &Reads,
    shapes: &Shapes,
) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTEXT);
    text(&mut hasher, id);
    text(&mut hasher, printed);
    text(
        &mut hasher,
        match scope {
            HistoryScope::Agent => "agent",
            HistoryScope::Session => "session",
            HistoryScope::Subject => "subject",
            HistoryScope::Owner => "owner",
            HistoryScope::Namespace => "namespace",
        },
    );
    let actions: BTreeSet<&str> = reads
        .topics
        .keys()
        .map(|(action, _)| action.as_str())
        .collect();
    length(&mut hasher, actions.len());
    for action in actions {
        text(&mut hasher, action);
        let schema = shapes.get(action);
        optional_shape(&mut hasher, schema.map(|schema| &schema.input));
        optional_shape(
            &mut hasher,
            schema.and_then(|schema| schema.output.as_ref()),
        );
    }
    Fingerprint(*hasher.finalize().as_bytes())
}

fn length(hasher: &mut blake3::Hasher, length: usize) {
    // A usize is at most 64 bits wherever this runs.
    hasher.update(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    length(hasher, text.len());
    hasher.update(text.as_bytes());
}

fn optional_shape(hasher: &mut blake3::Hasher, shape: Option<&Shape>) {
    match shape {
        None => {
            hasher.update(&[0]);
        }
        Some(shape) => self::shape(hasher, shape),
    }
}

fn shape(hasher: &mut blake3::Hasher, shape: &Shape) {
    match shape {
        Shape::Bool => {
            hasher.update(&[1]);
        }
        Shape::Long { scale } => {
            hasher.update(&[2]);
            hasher.update(&scale.to_be_bytes());
        }
        Shape::Decimal => {
            hasher.update(&[3]);
        }
        Shape::String => {
            hasher.update(&[4]);
        }
        Shape::JsonText => {
            hasher.update(&[5]);
        }
        Shape::Set(element) => {
            hasher.update(&[6]);
            self::shape(hasher, element);
        }
        Shape::Record(attributes) => {
            hasher.update(&[7]);
            length(hasher, attributes.len());
            for (name, attribute) in attributes {
                text(hasher, name);
                hasher.update(&[u8::from(attribute.required)]);
                self::shape(hasher, &attribute.shape);
            }
        }
    }
}
