//! The request of a test case, with defaults for whatever the case does not care about.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Fields, Wrong};
use crate::json::Json;
use crate::request::{
    Agent, Approval, Assurance, Issuer, Request, Resource, Session, StringSets, Subject,
};

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
        purpose: None,
        issuer: Issuer::Operator("owner".to_owned()),
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
        issuer: read_issuer(&mut fields)?.unwrap_or(default.issuer),
        purpose: fields.optional("purpose", Fields::string)?,
        delegated: fields
            .optional("delegated", Fields::boolean)?
            .unwrap_or(default.delegated),
        subject: read_subject(&mut fields)?,
        grants: fields
            .optional("grants", Fields::string_sets)?
            .unwrap_or_default(),
        ..default_session(start_s)
    };
    let at = fields.at().to_owned();
    fields.end()?;
    let by_agent = matches!(session.issuer, Issuer::Agent(_));
    if by_agent && (session.purpose.is_some() || session.subject.is_some()) {
        return Err(Wrong::new(
            &at,
            "an agent opened it, so that `purpose` and `subject` reach rules as `claims` of the request",
        ));
    }
    Ok(Some(session))
}

fn read_issuer(of: &mut Fields<'_>) -> Result<Option<Issuer>, Wrong> {
    let Some(mut fields) = of.object("issuer")? else {
        return Ok(None);
    };
    let operator = fields.optional("operator", Fields::string)?;
    let gateway = fields.optional("gateway", Fields::string)?;
    let agent = fields.optional("agent", Fields::string)?;
    let at = fields.at().to_owned();
    fields.end()?;
    match (operator, gateway, agent) {
        (Some(id), None, None) => Ok(Some(Issuer::Operator(id))),
        (None, Some(id), None) => Ok(Some(Issuer::Gateway(id))),
        (None, None, Some(id)) => Ok(Some(Issuer::Agent(id))),
        _ => Err(Wrong::new(
            &at,
            "it has not exactly one of `operator`, `gateway` and `agent`",
        )),
    }
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
            .unwrap_or_else(|| "ISSUER_ASSERTED".to_owned()),
    };
    let at = fields.at().to_owned();
    fields.end()?;
    if !["ISSUER_ASSERTED", "TOKEN_VERIFIED"].contains(&subject.assurance.as_str()) {
        return Err(Wrong::new(
            &at,
            "`assurance` is neither ISSUER_ASSERTED nor TOKEN_VERIFIED; what is only claimed is among `claims`",
        ));
    }
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
