//! `entities.json`: facts that a bundle's author vouches for, about resources and groups.
//!
//! Agents, operators, gateways and grants are the registry's and the session's to speak of: a bundle that could add an
//! agent to a group would let a policy author change who someone is.

use cedar_policy::{Entities, Schema};

use super::SourceFile;
use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::limits::MAX_BUNDLE_BYTES;
use crate::schema::NAMESPACE;

/// Types that `entities.json` must not speak of. Actions it may repeat: Cedar refuses them if they differ from the schema.
const FOREIGN: [&str; 4] = ["Agent", "Operator", "Gateway", "Grants"];

/// Reads the facts, and checks them against the schema.
pub(super) fn read(file: &SourceFile, schema: &str) -> Result<Entities, Diagnostic> {
    let refuse = |message: String, mend: &str| Diagnostic::error(&file.path, message, mend);
    // Cedar's reader recurses; this one finds out first whether it may.
    Json::parse(file.text.as_bytes(), MAX_BUNDLE_BYTES)
        .map_err(|error| refuse(error.to_string(), "write strict JSON").at_line(error.line()))?;
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
