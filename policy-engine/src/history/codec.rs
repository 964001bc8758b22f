//! The canonical bytes of a logged event.
//!
//! Replicas compare digests of their state, so one event has one encoding: what re-encodes differently is refused.

use prost::Message;

use crate::history::header::{Cell, Header};
use crate::history::records::split_due;
use crate::history::series::is_chunk;
use crate::history::{Event, EventKind};
use crate::value::Value;

/// Bytes that are not the canonical form of a record of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a record of a history partition in canonical form")]
pub struct NotCanonical;

#[derive(Clone, PartialEq, Message)]
struct EventWire {
    #[prost(int64, tag = "1")]
    time_ns: i64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    request_id: String,
    #[prost(string, tag = "4")]
    session_id: String,
    #[prost(string, tag = "5")]
    agent: String,
    #[prost(string, tag = "6")]
    action: String,
    #[prost(string, tag = "7")]
    resource: String,
    /// Canonical bytes of a value.
    #[prost(bytes = "vec", tag = "8")]
    input: Vec<u8>,
    /// Canonical bytes of a value; no value has none.
    #[prost(bytes = "vec", tag = "9")]
    output: Vec<u8>,
    /// The gateway that recorded an outcome; none for what an agent reports.
    #[prost(string, tag = "10")]
    recorder: String,
}

/// Checks a record of a partition by its key inside the partition. For the header, which is there exactly if anything is, it
/// gives the time in microseconds since 1970 from which on the partition does not matter.
///
/// # Errors
/// [`NotCanonical`] for what stepping never writes.
pub fn check_record(key: &[u8], bytes: &[u8]) -> Result<Option<u64>, NotCanonical> {
    let (tag, rest) = key.split_first().ok_or(NotCanonical)?;
    let sound = match (tag, rest.len()) {
        (b'h', 0) => {
            let header = Header::from_bytes(bytes).filter(|header| header.to_bytes() == bytes);
            let expiry = header.and_then(|header| header.expires_at_us());
            return expiry.map(Some).ok_or(NotCanonical);
        }
        (b'c', 32) => Cell::from_bytes(bytes).is_some_and(|cell| cell.to_bytes() == bytes),
        (b'k', 40) => is_chunk(bytes),
        (b'v', 48) => bytes.len() == 8 && bytes != [0; 8],
        (b'e', 16) => event_from_bytes(bytes).is_ok(),
        (b'x', _) => split_due(key).is_some() && bytes.is_empty(),
        _ => false,
    };
    if sound { Ok(None) } else { Err(NotCanonical) }
}

pub(crate) fn event_to_bytes(event: &Event) -> Vec<u8> {
    EventWire {
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
        recorder: event.recorder.clone().unwrap_or_default(),
    }
    .encode_to_vec()
}

pub(crate) fn event_from_bytes(bytes: &[u8]) -> Result<Event, NotCanonical> {
    let wire = EventWire::decode(bytes).map_err(|_| NotCanonical)?;
    let output = match wire.output.as_slice() {
        [] => None,
        bytes => Some(Value::from_bytes(bytes).map_err(|_| NotCanonical)?),
    };
    let kind = kind_from(wire.kind).ok_or(NotCanonical)?;
    // A gateway's outcome names the gateway, and nothing else does.
    let by_gateway = matches!(kind, EventKind::Response | EventKind::Error);
    if by_gateway == wire.recorder.is_empty() {
        return Err(NotCanonical);
    }
    let event = Event {
        time_ns: wire.time_ns,
        kind,
        request_id: wire.request_id,
        session_id: wire.session_id,
        agent: wire.agent,
        action: wire.action,
        resource: wire.resource,
        input: Value::from_bytes(&wire.input).map_err(|_| NotCanonical)?,
        output,
        recorder: by_gateway.then_some(wire.recorder),
    };
    if event_to_bytes(&event) == bytes {
        Ok(event)
    } else {
        Err(NotCanonical)
    }
}

fn kind_to(kind: EventKind) -> u32 {
    match kind {
        EventKind::Request => 1,
        EventKind::Allowed => 2,
        EventKind::Denied => 3,
        EventKind::Response => 4,
        EventKind::Error => 5,
        EventKind::SelfReportedResponse => 6,
        EventKind::SelfReportedError => 7,
    }
}

fn kind_from(kind: u32) -> Option<EventKind> {
    match kind {
        1 => Some(EventKind::Request),
        2 => Some(EventKind::Allowed),
        3 => Some(EventKind::Denied),
        4 => Some(EventKind::Response),
        5 => Some(EventKind::Error),
        6 => Some(EventKind::SelfReportedResponse),
        7 => Some(EventKind::SelfReportedError),
        _ => None,
    }
}
