//! `entities.json`: facts that a bundle's author vouches for, about resources and groups.
//!
//! Agents, operators, gateways and grants are the registry's and the session's to speak of: a bundle that could add an
//! agent to a group would let a policy author change who someone is.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Entities, Schema};

use super::SourceFile;
use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::limits::{MAX_ANCESTORS, MAX_BUNDLE_BYTES, MAX_ENTITIES};
use crate::schema::NAMESPACE;

/// Types that `entities.json` must not speak of. Actions it may repeat: Cedar refuses them if they differ from the schema.
const FOREIGN: [&str; 4] = ["Agent", "Operator", "Gateway", "Grants"];

/// Reads the facts, and checks them against the schema.
pub(super) fn read(file: &SourceFile, schema: &str) -> Result<Entities, Diagnostic> {
    let refuse = |message: String, mend: &str| Diagnostic::error(&file.path, message, mend);
    // Cedar's reader recurses; this one finds out first whether it may.
    let json = Json::parse(file.text.as_bytes(), MAX_BUNDLE_BYTES)
        .map_err(|error| refuse(error.to_string(), "write strict JSON").at_line(error.line()))?;
    check_hierarchy(&json).map_err(|(message, mend)| refuse(message, mend))?;
    let schema = Schema::from_cedarschema_str(schema)
        .map_err(|error| refuse(error.to_string(), "mend the schema"))?
        .0;
    let entities = Entities::from_json_str(&file.text, Some(&schema)).map_err(|error| {
        refuse(
            chain(&error),
            "see Cedar's entity format, and make it fit the schema",
        )
    })?;
    let is_foreign = |name: String| {
        FOREIGN
            .iter()
            .any(|base| name == format!("{NAMESPACE}::{base}"))
    };
    let foreign = entities
        .iter()
        .map(|entity| entity.uid())
        .find(|uid| is_foreign(uid.type_name().to_string()));
    if let Some(uid) = foreign {
        let message = format!("{uid} is not the bundle's to speak of");
        return Err(refuse(
            message,
            "change it in the registry; keep resources and groups here",
        ));
    }
    Ok(entities)
}

/// Bounds who is in whom. Cedar stores every entity's ancestors, so a chain of entities takes the square of its length.
fn check_hierarchy(json: &Json) -> Result<(), (String, &'static str)> {
    const FORM: &str =
        "write an array of entities, with `uid` and `parents` as `{\"type\": …, \"id\": …}`";
    let malformed = || ("an entity is not in Cedar's format".to_owned(), FORM);
    let entities = json.as_array().ok_or_else(malformed)?;
    if entities.len() > MAX_ENTITIES {
        let message = format!("there are more than {MAX_ENTITIES} entities");
        return Err((message, "describe only those that rules read"));
    }
    let mut parents: BTreeMap<Uid<'_>, Vec<Uid<'_>>> = BTreeMap::new();
    for entity in entities {
        let uid = entity.get("uid").and_then(uid_of).ok_or_else(malformed)?;
        let of = entity
            .get("parents")
            .and_then(Json::as_array)
            .ok_or_else(malformed)?;
        let of: Option<Vec<_>> = of.iter().map(uid_of).collect();
        parents.insert(uid, of.ok_or_else(malformed)?);
    }
    let mut total = 0;
    for uid in parents.keys() {
        let mut ancestors = BTreeSet::new();
        let mut next = vec![*uid];
        while let Some(uid) = next.pop() {
            for parent in parents.get(&uid).into_iter().flatten() {
                if ancestors.insert(*parent) {
                    next.push(*parent);
                    total += 1;
                }
            }
            if total > MAX_ANCESTORS {
                let message =
                    format!("the entities have more than {MAX_ANCESTORS} ancestors together");
                return Err((message, "make the hierarchy flatter"));
            }
        }
    }
    Ok(())
}

/// The type and id of an entity.
type Uid<'a> = (&'a str, &'a str);

fn uid_of(json: &Json) -> Option<Uid<'_>> {
    let json = json.get("__entity").unwrap_or(json);
    Some((json.get("type")?.as_str()?, json.get("id")?.as_str()?))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
