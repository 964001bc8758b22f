//! The canonical bytes of a partition.
//!
//! Replicas compare digests of their state, so one partition has one encoding: what re-encodes differently is refused.

use prost::Message;

use crate::history::partition::{Partition, Retained};
use crate::history::{Event, EventKind};
use crate::value::Value;

/// Bytes that are not the canonical form of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a history partition in canonical form")]
pub struct NotCanonical;

#[derive(Clone, PartialEq, Message)]
struct PartitionWire {
    #[prost(message, repeated, tag = "1")]
    events: Vec<RetainedWire>,
    #[prost(int64, tag = "2")]
    blind_until_ns: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RetainedWire {
    #[prost(int64, tag = "1")]
    until_ns: i64,
    #[prost(int64, tag = "2")]
    time_ns: i64,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(string, tag = "4")]
    request_id: String,
    #[prost(string, tag = "5")]
    session_id: String,
    #[prost(string, tag = "6")]
    agent: String,
    #[prost(string, tag = "7")]
    action: String,
    #[prost(string, tag = "8")]
    resource: String,
    /// Canonical bytes of a value.
    #[prost(bytes = "vec", tag = "9")]
    input: Vec<u8>,
    /// Canonical bytes of a value; no value has none.
    #[prost(bytes = "vec", tag = "10")]
    output: Vec<u8>,
}

impl Partition {
    /// Reads the form that [`Partition::to_bytes`] writes, and no other.
    ///
    /// # Errors
    ///
    /// [`NotCanonical`] for bytes that re-encode differently, and for events out of order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let wire = PartitionWire::decode(bytes).map_err(|_| NotCanonical)?;
        let events = wire
            .events
            .into_iter()
            .map(|retained| retained_from(retained).ok_or(NotCanonical))
            .collect::<Result<Vec<_>, _>>()?;
        let partition = Self::from_parts(events, wire.blind_until_ns).ok_or(NotCanonical)?;
        if partition.to_bytes() == bytes {
            Ok(partition)
        } else {
            Err(NotCanonical)
        }
    }

    /// The canonical bytes; an empty partition has none.
    pub fn to_bytes(&self) -> Vec<u8> {
        PartitionWire {
            events: self.retained().iter().map(retained_to).collect(),
            blind_until_ns: self.blind_until_ns(),
        }
        .encode_to_vec()
    }
}

/// How many bytes an event takes, for the partition's bound.
pub(super) fn event_bytes(event: &Event) -> usize {
    wire_of(event).encoded_len()
}

fn wire_of(event: &Event) -> RetainedWire {
    RetainedWire {
        until_ns: 0,
        time_ns: event.time_ns,
        kind: kind_to(event.kind),
        request_id: event.request_id.clone(),
        session_id: event.session_id.clone(),
        agent: event.agent.clone(),
        action: event.action.clone(),
        resource: event.resource.clone(),
        input: event.input.to_bytes(),
        output: event
            .output
            .as_ref()
            .map(Value::to_bytes)
            .unwrap_or_default(),
    }
}

fn retained_to(retained: &Retained) -> RetainedWire {
    RetainedWire {
        until_ns: retained.until_ns(),
        ..wire_of(retained.event())
    }
}

fn retained_from(wire: RetainedWire) -> Option<Retained> {
    let output = match wire.output.as_slice() {
        [] => None,
        bytes => Some(Value::from_bytes(bytes).ok()?),
    };
    let event = Event {
        time_ns: wire.time_ns,
        kind: kind_from(wire.kind)?,
        request_id: wire.request_id,
        session_id: wire.session_id,
        agent: wire.agent,
        action: wire.action,
        resource: wire.resource,
        input: Value::from_bytes(&wire.input).ok()?,
        output,
    };
    Some(Retained::new(event, wire.until_ns))
}

fn kind_to(kind: EventKind) -> u32 {
    match kind {
        EventKind::Request => 1,
        EventKind::Allowed => 2,
        EventKind::Denied => 3,
        EventKind::Response => 4,
        EventKind::Error => 5,
    }
}

fn kind_from(kind: u32) -> Option<EventKind> {
    match kind {
        1 => Some(EventKind::Request),
        2 => Some(EventKind::Allowed),
        3 => Some(EventKind::Denied),
        4 => Some(EventKind::Response),
        5 => Some(EventKind::Error),
        _ => None,
    }
}
