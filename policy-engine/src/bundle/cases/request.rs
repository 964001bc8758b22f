//! The request of a test case, with defaults for whatever the case does not care about.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Fields, Wrong};
use crate::json::Json;
use crate::request::{Agent, Approval, Assurance, Request, Resource, Session, StringSets, Subject};

/// Reads a request; who asks in which session is filled in by the caller.
pub(super) fn read_request(at: &str, json: &Json, time_us: u64) -> Result<Request, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let action = fields.required("action", Fields::string)?;
    let input = fields.required("input", Ok)?.to_string().into_bytes();
    let resource = match fields.take("resource") {
        Some(json) => read_resource(&format!("{at}/resource"), json)?,
        None => Resource {
            id: action.clone(),
            kind: None,
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
    };
    let approval = match fields.take("approval") {
        Some(json) => Some(read_approval(&format!("{at}/approval"), json)?),
        None => None,
    };
    let presenter = fields.optional("presenter", Fields::string)?;
    let assurance = match fields.optional("assurance", Fields::string)?.as_deref() {
        None => Assurance::AgentSigned,
        Some(name) => [
            Assurance::GatewayAsserted,
            Assurance::AgentSigned,
            Assurance::BothSigned,
        ]
        .into_iter()
        .find(|assurance| assurance.as_str() == name)
        .ok_or_else(|| Wrong::new(at, "`assurance` has no such value"))?,
    };
    let claims = fields
        .optional("claims", Fields::string_sets)?
        .unwrap_or_default();
    fields.end()?;
    Ok(Request {
        time_us,
        request_id: String::new(),
        agent: default_agent(),
        session: default_session(0),
        presenter,
        assurance,
        action,
        resource,
        input,
        claims,
        approval,
    })
}

fn default_agent() -> Agent {
    Agent {
        id: "agent".to_owned(),
        owner: "owner".to_owned(),
        groups: BTreeSet::new(),
        attributes: BTreeMap::new(),
    }
}

pub(super) fn default_session(start_s: u64) -> Session {
    Session {
        id: "0".repeat(32),
        purpose: String::new(),
        issuer: "owner".to_owned(),
        delegated: false,
        seq: 1,
        opened_at_us: start_s.saturating_mul(1_000_000),
        subject: None,
        grants: StringSets::new(),
    }
}

pub(super) fn read_agent(of: &mut Fields<'_>) -> Result<Option<Agent>, Wrong> {
    let Some(mut fields) = of.object("agent")? else {
        return Ok(None);
    };
    let default = default_agent();
    let agent = Agent {
        id: fields.optional("id", Fields::string)?.unwrap_or(default.id),
        owner: fields
            .optional("owner", Fields::string)?
            .unwrap_or(default.owner),
        groups: fields
            .optional("groups", Fields::strings)?
            .unwrap_or_default(),
        attributes: fields
            .optional("attributes", Fields::string_map)?
            .unwrap_or_default(),
    };
    fields.end()?;
    Ok(Some(agent))
}

pub(super) fn read_session(of: &mut Fields<'_>, start_s: u64) -> Result<Option<Session>, Wrong> {
    let Some(mut fields) = of.object("session")? else {
        return Ok(None);
    };
    let default = default_session(start_s);
    let session = Session {
        id: fields.optional("id", Fields::string)?.unwrap_or(default.id),
        purpose: fields
            .optional("purpose", Fields::string)?
            .unwrap_or(default.purpose),
        issuer: fields
            .optional("issuer", Fields::string)?
            .unwrap_or(default.issuer),
        delegated: fields
            .optional("delegated", Fields::boolean)?
            .unwrap_or(default.delegated),
        subject: read_subject(&mut fields)?,
        grants: fields
            .optional("grants", Fields::string_sets)?
            .unwrap_or_default(),
        ..default_session(start_s)
    };
    fields.end()?;
    Ok(Some(session))
}

fn read_subject(of: &mut Fields<'_>) -> Result<Option<Subject>, Wrong> {
    let Some(mut fields) = of.object("subject")? else {
        return Ok(None);
    };
    let subject = Subject {
        iss: fields.required("iss", Fields::string)?,
        sub: fields.required("sub", Fields::string)?,
        assurance: fields
            .optional("assurance", Fields::string)?
            .unwrap_or_else(|| "CLAIMED".to_owned()),
    };
    fields.end()?;
    Ok(Some(subject))
}

fn read_resource(at: &str, json: &Json) -> Result<Resource, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let resource = Resource {
        id: fields.required("id", Fields::string)?,
        kind: fields.optional("type", Fields::string)?,
        parents: fields
            .optional("parents", Fields::strings)?
            .unwrap_or_default(),
        attributes: fields
            .optional("attributes", Fields::string_map)?
            .unwrap_or_default(),
    };
    fields.end()?;
    Ok(resource)
}

fn read_approval(at: &str, json: &Json) -> Result<Approval, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let groups = fields.required("groups", Fields::counts)?;
    // By default each of them is somebody else's.
    let all = groups
        .values()
        .fold(0, |sum: u32, count| sum.saturating_add(*count));
    let count = fields.optional("count", Fields::count)?.unwrap_or(all);
    fields.end()?;
    Ok(Approval { groups, count })
}
