//! From what MCP servers say about their tools to a Cedar schema.
//!
//! Dogwood has a generator too, but it refuses tools named `get-weather`, turns objects into entities and enumerations into
//! entity types. Here every name is quoted, objects are closed records, and what Cedar cannot type exactly becomes JSON text
//! rather than a guess (see [`json_schema`]).
//!
//! A manifest is what `tools/list` answers, `{"result": {"tools": […]}}`, or its `{"tools": […]}`, or the array alone; or an
//! object of such arrays by server. A tool has a `name`, an `inputSchema` (or `parameters`, as others call it), and may have
//! an `outputSchema`. Everything else is ignored.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Severity};
use crate::json::Json;
use crate::limits::MAX_ACTION_ID_BYTES;
use crate::schema::ActionSchema;

mod json_schema;
mod text;

use json_schema::Reader;

/// One manifest of a bundle.
pub(crate) struct Manifest<'a> {
    /// Its path, for findings.
    pub(crate) file: &'a str,
    /// The server whose tools it lists; none if they are known by their bare names or the manifest groups them by server.
    pub(crate) server: Option<&'a str>,
    /// Its content.
    pub(crate) json: Json,
}

/// The schema text for all tools of all manifests, and warnings about what it types less exactly than their authors did.
///
/// # Errors
/// All findings, if one of them is an error.
pub(crate) fn to_cedarschema(
    manifests: &[Manifest<'_>],
) -> Result<(String, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut findings = Vec::new();
    let mut actions = BTreeMap::new();
    for manifest in manifests {
        match servers(manifest) {
            Ok(servers) => {
                for (server, tools) in servers {
                    for tool in tools {
                        read_tool(manifest.file, server, tool, &mut actions, &mut findings);
                    }
                }
            }
            Err(finding) => findings.push(finding),
        }
    }
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        return Err(findings);
    }
    Ok((text::schema(&actions), findings))
}

/// The lists of tools that a manifest holds, each with its server.
type Servers<'a> = Vec<(Option<&'a str>, &'a [Json])>;

fn servers<'a>(manifest: &'a Manifest<'_>) -> Result<Servers<'a>, Diagnostic> {
    let json = manifest.json.get("result").unwrap_or(&manifest.json);
    let list = json.get("tools").unwrap_or(json);
    if let Some(tools) = list.as_array() {
        return Ok(vec![(manifest.server, tools)]);
    }
    let by_server = list
        .as_object()
        .filter(|_| manifest.server.is_none())
        .and_then(|servers| {
            let servers = servers
                .iter()
                .map(|(server, tools)| Some((Some(server.as_str()), tools.as_array()?)));
            servers.collect::<Option<Servers<'a>>>()
        });
    by_server.ok_or_else(|| {
        let mend = "write what `tools/list` answers; an object of arrays by server needs a manifest without `server`";
        Diagnostic::error(manifest.file, "the manifest has no list of tools", mend)
    })
}

fn read_tool(
    file: &str,
    server: Option<&str>,
    tool: &Json,
    actions: &mut BTreeMap<String, ActionSchema>,
    findings: &mut Vec<Diagnostic>,
) {
    let id = match action_id(file, server, tool) {
        Ok(id) => id,
        Err(finding) => return findings.push(finding),
    };
    let Some(input) = tool.get("inputSchema").or_else(|| tool.get("parameters")) else {
        let message = format!("tool `{}` has no `inputSchema`", id.escape_debug());
        let mend = "add it; for a tool without arguments `{\"type\": \"object\", \"additionalProperties\": false}`";
        return findings.push(Diagnostic::error(file, message, mend));
    };
    let mut reader = Reader::new(file, &id, input);
    let input = reader.arguments();
    findings.append(&mut reader.findings);
    let output = tool.get("outputSchema").and_then(|output| {
        let mut reader = Reader::new(file, &id, output);
        let output = reader.output();
        findings.append(&mut reader.findings);
        output
    });
    if actions
        .insert(id.clone(), ActionSchema { input, output })
        .is_some()
    {
        let message = format!("tool `{}` is listed twice", id.escape_debug());
        findings.push(Diagnostic::error(
            file,
            message,
            "give each manifest a `server` of its own",
        ));
    }
}

/// `server/name`, or `name`.
fn action_id(file: &str, server: Option<&str>, tool: &Json) -> Result<String, Diagnostic> {
    let Some(name) = tool.get("name").and_then(Json::as_str) else {
        return Err(Diagnostic::error(
            file,
            "a tool has no name",
            "give it a `name`",
        ));
    };
    let id = match server {
        Some(server) => format!("{server}/{name}"),
        None => name.to_owned(),
    };
    let is_bad_server = server.is_some_and(|server| server.is_empty() || server.contains('/'));
    if is_bad_server
        || name.is_empty()
        || id.len() > MAX_ACTION_ID_BYTES
        || id.chars().any(char::is_control)
    {
        let message = format!(
            "tool `{}` has an empty name, one longer than {MAX_ACTION_ID_BYTES} bytes or with control characters, or its \
             server has an empty name or one with `/`",
            id.escape_debug()
        );
        return Err(Diagnostic::error(file, message, "rename it"));
    }
    if id == text::GROUP {
        let message = format!("tool `{id}` has the name of the group that all tools are in");
        return Err(Diagnostic::error(
            file,
            message,
            "give the manifest a `server`",
        ));
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
