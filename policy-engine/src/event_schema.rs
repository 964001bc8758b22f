//! Which events rules can read, and by what names: fixed, so that history means the same in every bundle.
//!
//! No field is pinned: a rule sees every event of the partition it reads, and the partition alone decides whose past that is.
//! Who recorded an outcome is in its kind: `response` and `error` are by a gateway that may record for the agent, and
//! `self_reported_response` and `self_reported_error` are the agent's own word. So a rule that does not name its own word is not
//! unlocked by it.
//! The longest window heads the schema because Dogwood's own default is a day.

use dogwood_language::{Error, ServiceSchema};

use crate::history::EventKind;

/// The longest window, and the longest sum of nested windows, of a rule.
pub(crate) const MAX_WINDOW_S: i64 = 30 * 86_400;

const EVENT_SCHEMA: &str = "max_window = 30d

decision event <A>::request {
    ...inputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    requestId: String,
    sessionId: String,
}

event <A>::allowed {
    ...inputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    requestId: String,
    sessionId: String,
}

event <A>::denied {
    ...inputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    requestId: String,
    sessionId: String,
}

event <A>::response {
    ...inputs(A),
    ...outputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    recorder: Countersign::Gateway,
    requestId: String,
    sessionId: String,
}

event <A>::self_reported_response {
    ...inputs(A),
    ...outputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    recorder: principalType(A),
    requestId: String,
    sessionId: String,
}

event <A>::error {
    ...inputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    recorder: Countersign::Gateway,
    requestId: String,
    sessionId: String,
}

event <A>::self_reported_error {
    ...inputs(A),
    callerPrincipal: principalType(A),
    callerResource: resourceType(A),
    recorder: principalType(A),
    requestId: String,
    sessionId: String,
}
";

/// The half of a Dogwood schema that no bundle can change: these events, Dogwood's own macros, no providers.
pub(crate) fn service_schema() -> Result<ServiceSchema, Error> {
    ServiceSchema::builder()
        .event_schema_str(EVENT_SCHEMA)
        .build()
}

impl EventKind {
    /// The name that rules use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Response => "response",
            Self::Error => "error",
            Self::SelfReportedResponse => "self_reported_response",
            Self::SelfReportedError => "self_reported_error",
        }
    }

    /// The kind that rules call so.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Request,
            Self::Allowed,
            Self::Denied,
            Self::Response,
            Self::Error,
            Self::SelfReportedResponse,
            Self::SelfReportedError,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }
}
