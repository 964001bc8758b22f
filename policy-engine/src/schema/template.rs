//! The declarations that every schema contains unchanged, because the engine fills them in.

use cedar_policy_core::ast::{InternalName, Name};
use cedar_policy_core::validator::json_schema::NamespaceDefinition;

use super::resolve::{Resolved, parse};
use crate::Diagnostic;

/// The namespace of the template, and of every action.
pub(crate) const NAMESPACE: &str = "Countersign";

/// The schema template: who acts, on what, in which session. A hand-written schema contains it unchanged and adds actions; a
/// generated one starts with it.
///
/// Of an `Issuer` exactly one attribute is there, whose name says what kind of identity opened the session. `purpose` and `subject` are
/// there only if somebody other than an agent vouches for them; what an agent says of itself is in `claims`, under `purpose`,
/// `subject.iss` and `subject.sub`.
pub const TEMPLATE: &str = r#"namespace Countersign {
  entity Group in [Group]; entity Operator; entity Gateway; entity Grants tags Set<String>;
  @mcp_principal("Agent") entity Agent in [Group] = { owner: Operator } tags String;
  @mcp_resource("Resource") entity Resource in [Resource] = { type: String } tags String;
  @mcp_context("system") type SystemContext = { now: datetime };
  type Subject = { iss: String, sub: String, assurance: String };
  type Issuer = { operator?: Operator, gateway?: Gateway, agent?: Agent };
  @mcp_context("session") type SessionContext = { id: String, purpose?: String, issuer: Issuer,
    delegated: Bool, seq: Long, openedAt: datetime, subject?: Subject, grants: Grants };
  type Approval = { groups: Set<String>, count: Long };
  @mcp_context("request") type RequestContext = { presenter?: Gateway, assurance: String,
    approval?: Approval, claims: Grants };
  @mcp_action("CallTool") action CallTool;
}
"#;

const MEND: &str = "start with the schema template, unchanged, and add actions to its namespace";

/// The declarations of our namespace.
fn ours(schema: &Resolved) -> Option<&NamespaceDefinition<InternalName>> {
    let is_ours = |name: &Option<Name>| {
        name.as_ref()
            .is_some_and(|name| name.to_string() == NAMESPACE)
    };
    schema
        .0
        .iter()
        .find_map(|(name, definition)| is_ours(name).then_some(definition))
}

/// Finds declarations of the template that the schema lacks or changes. Names are compared as resolved, so that a schema
/// cannot change the template's meaning by declaring, say, its own `datetime`.
pub(super) fn check_contains(file: &str, schema: &Resolved) -> Vec<Diagnostic> {
    let template = match parse("template", TEMPLATE) {
        Ok(template) => template,
        Err(finding) => return vec![finding],
    };
    let (Some(template), Some(namespace)) = (ours(&template), ours(schema)) else {
        return vec![Diagnostic::error(
            file,
            format!("there is no namespace {NAMESPACE}"),
            MEND,
        )];
    };
    let types = template
        .common_types
        .iter()
        .filter(|(id, declared)| {
            namespace.common_types.get(*id).map(|d| &d.ty) != Some(&declared.ty)
        })
        .map(|(id, _)| format!("type {id}"));
    let entities = template
        .entity_types
        .iter()
        .filter(|(id, declared)| {
            namespace.entity_types.get(*id).map(|d| &d.kind) != Some(&declared.kind)
        })
        .map(|(id, _)| format!("entity {id}"));
    let actions = template
        .actions
        .iter()
        .filter(|(id, declared)| {
            namespace.actions.get(*id).is_none_or(|action| {
                action.applies_to != declared.applies_to || action.member_of != declared.member_of
            })
        })
        .map(|(id, _)| format!("action {id}"));
    types
        .chain(entities)
        .chain(actions)
        .map(|declaration| {
            Diagnostic::error(
                file,
                format!("`{declaration}` is missing or differs from the schema template"),
                MEND,
            )
        })
        .collect()
}
