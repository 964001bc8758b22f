//! The actions of a schema: each must have a context that the engine can fill in, and nothing else.

use std::collections::BTreeMap;

use cedar_policy_core::ast::InternalName;
use cedar_policy_core::est::Annotations;
use cedar_policy_core::validator::json_schema::{
    ActionType, ApplySpec, RecordType, Type, TypeOfAttribute, TypeVariant,
};

use super::resolve::{CommonTypes, Resolved};
use super::template::{NAMESPACE, check_contains};
use super::{ActionSchema, Attribute, Shape};
use crate::Diagnostic;
use crate::limits::{MAX_ACTION_ID_BYTES, MAX_ACTIONS, MAX_SCALE};
use crate::text::line_at;

/// The annotation that makes a `Long` of a number with that many fractional digits.
pub(crate) const SCALE: &str = "countersign_scale";
/// The annotation that makes a `String` of any JSON.
pub(crate) const JSON: &str = "countersign_json";

/// The attributes of every action's context that the engine itself fills in, and their types.
const GROUPS: [(&str, &str); 3] = [
    ("request", "RequestContext"),
    ("session", "SessionContext"),
    ("system", "SystemContext"),
];

/// What is wrong with a declaration, and the mend.
type Refusal = (String, String);

fn refusal<T>(message: impl Into<String>, mend: impl Into<String>) -> Result<T, Refusal> {
    Err((message.into(), mend.into()))
}

/// Reads all actions that can be requested.
pub(super) fn read_actions(
    file: &str,
    text: &str,
    schema: &Resolved,
    common_types: &CommonTypes<'_>,
) -> Result<BTreeMap<String, ActionSchema>, Vec<Diagnostic>> {
    let mut findings = check_contains(file, schema);
    let mut actions = BTreeMap::new();
    for (namespace, definition) in &schema.0 {
        let is_ours = namespace
            .as_ref()
            .is_some_and(|name| name.to_string() == NAMESPACE);
        for (id, action) in &definition.actions {
            let read = read_action(id, action, is_ours, common_types);
            match read {
                Ok(Some(read)) => {
                    actions.insert(id.to_string(), read);
                }
                Ok(None) => {}
                Err((message, mend)) => {
                    let line = action.loc.as_ref().map(|loc| line_at(text, loc.start()));
                    let message = format!("action `{}`: {message}", id.escape_debug());
                    findings.push(Diagnostic::error(file, message, mend).at_line(line));
                }
            }
        }
    }
    if actions.len() > MAX_ACTIONS {
        let message = format!("the schema has more than {MAX_ACTIONS} actions");
        findings.push(Diagnostic::error(
            file,
            message,
            "split it into bundles of several namespaces",
        ));
    }
    if findings.is_empty() {
        Ok(actions)
    } else {
        Err(findings)
    }
}

/// Reads one action; none if it is only a group.
fn read_action(
    id: &str,
    action: &ActionType<InternalName>,
    is_ours: bool,
    common_types: &CommonTypes<'_>,
) -> Result<Option<ActionSchema>, Refusal> {
    if !is_ours {
        return refusal(
            format!("it is declared outside of namespace {NAMESPACE}"),
            format!("move it into `namespace {NAMESPACE} {{ … }}`"),
        );
    }
    if id.is_empty() || id.len() > MAX_ACTION_ID_BYTES || id.chars().any(char::is_control) {
        return refusal(
            format!(
                "its id is empty, longer than {MAX_ACTION_ID_BYTES} bytes or has control characters"
            ),
            "rename it",
        );
    }
    // Cedar takes an action without `appliesTo` for one that applies to nothing: a group.
    let is_group =
        |spec: &&ApplySpec<_>| spec.principal_types.is_empty() && spec.resource_types.is_empty();
    match action.applies_to.as_ref().filter(|spec| !is_group(spec)) {
        None => Ok(None),
        Some(applies_to) => read_context(applies_to, common_types).map(Some),
    }
}

fn read_context(
    applies_to: &ApplySpec<InternalName>,
    common_types: &CommonTypes<'_>,
) -> Result<ActionSchema, Refusal> {
    let is_only = |names: &[InternalName], name: &str| matches!(names, [only] if only.to_string() == format!("{NAMESPACE}::{name}"));
    if !is_only(&applies_to.principal_types, "Agent")
        || !is_only(&applies_to.resource_types, "Resource")
    {
        return refusal(
            "it does not apply to an Agent and a Resource",
            "write `appliesTo { principal: [Agent], resource: [Resource], context: … }`",
        );
    }
    let Some(context) = common_types.record(&applies_to.context.0) else {
        return refusal(
            "its context is not a record",
            "write the context as a record",
        );
    };
    check_groups(context)?;
    let input = match context.attributes.get("input") {
        Some(attribute) if attribute.required => read_record("input", attribute, common_types)?,
        _ => {
            return refusal(
                "its context has no required `input`",
                "add `input: {}` or the arguments",
            );
        }
    };
    let output = match context.attributes.get("output") {
        Some(attribute) if attribute.required => {
            return refusal(
                "its `output` is required, but is unknown when it is decided",
                "write `output?: …`",
            );
        }
        Some(attribute) => Some(read_record("output", attribute, common_types)?),
        None => None,
    };
    Ok(ActionSchema { input, output })
}

/// Checks that the context has the engine's attributes as the template types them, and no others beside input and output.
fn check_groups(context: &RecordType<InternalName>) -> Result<(), Refusal> {
    for (name, type_name) in GROUPS {
        let full_name = format!("{NAMESPACE}::{type_name}");
        let is_right = context.attributes.get(name).is_some_and(|attribute| {
            attribute.required
                && matches!(&attribute.ty, Type::CommonTypeRef { type_name, .. } if type_name.to_string() == full_name)
        });
        if !is_right {
            return refusal(
                format!("its context has no `{name}` of type {type_name}"),
                format!("add `{name}: {type_name}` to the context"),
            );
        }
    }
    let known = |name: &str| {
        name == "input" || name == "output" || GROUPS.iter().any(|(group, _)| *group == name)
    };
    match context.attributes.keys().find(|name| !known(name)) {
        Some(name) => refusal(
            format!("nothing fills in `{}` of its context", name.escape_debug()),
            "move it into `input` or remove it",
        ),
        None => Ok(()),
    }
}

fn read_record(
    name: &str,
    attribute: &TypeOfAttribute<InternalName>,
    common_types: &CommonTypes<'_>,
) -> Result<Shape, Refusal> {
    let shape = read_attribute(name, attribute, common_types)?.shape;
    if matches!(shape, Shape::Record(_)) {
        Ok(shape)
    } else {
        refusal(format!("`{name}` is not a record"), "write it as a record")
    }
}

fn read_attribute(
    path: &str,
    attribute: &TypeOfAttribute<InternalName>,
    common_types: &CommonTypes<'_>,
) -> Result<Attribute, Refusal> {
    let shape = read_shape(path, &attribute.ty, common_types)?;
    let shape = annotate(path, shape, &attribute.annotations)?;
    Ok(Attribute {
        shape,
        required: attribute.required,
    })
}

/// Reads a type. Common types are written out; their size and depth are bounded already.
fn read_shape(
    path: &str,
    ty: &Type<InternalName>,
    common_types: &CommonTypes<'_>,
) -> Result<Shape, Refusal> {
    let ty = match ty {
        Type::Type { ty, .. } => ty,
        Type::CommonTypeRef { type_name, .. } => {
            return match common_types.get(type_name) {
                Some(ty) => read_shape(path, ty, common_types),
                None => read_builtin(path, &type_name.to_string()),
            };
        }
    };
    match ty {
        TypeVariant::Boolean => Ok(Shape::Bool),
        TypeVariant::Long => Ok(Shape::Long { scale: 0 }),
        TypeVariant::String => Ok(Shape::String),
        TypeVariant::Set { element } => Ok(Shape::Set(Box::new(read_shape(
            path,
            element,
            common_types,
        )?))),
        TypeVariant::Record(record) => {
            let attributes = record.attributes.iter().map(|(name, attribute)| {
                let path = format!("{path}.{}", name.escape_debug());
                Ok((
                    name.to_string(),
                    read_attribute(&path, attribute, common_types)?,
                ))
            });
            Ok(Shape::Record(attributes.collect::<Result<_, Refusal>>()?))
        }
        TypeVariant::Extension { name } => read_builtin(path, name.as_ref()),
        TypeVariant::Entity { .. } | TypeVariant::EntityOrCommon { .. } => unsupported(path),
    }
}

fn read_builtin(path: &str, name: &str) -> Result<Shape, Refusal> {
    match name.strip_prefix("__cedar::").unwrap_or(name) {
        "Bool" => Ok(Shape::Bool),
        "Long" => Ok(Shape::Long { scale: 0 }),
        "String" => Ok(Shape::String),
        "decimal" => Ok(Shape::Decimal),
        _ => unsupported(path),
    }
}

fn unsupported<T>(path: &str) -> Result<T, Refusal> {
    refusal(
        format!("`{path}` has a type that JSON does not map to exactly"),
        "use Bool, Long, decimal, String, a set or a record",
    )
}

/// Applies our annotations to an attribute's type, or through sets to that of its elements.
fn annotate(path: &str, shape: Shape, annotations: &Annotations) -> Result<Shape, Refusal> {
    let mut shape = shape;
    for (name, annotation) in &annotations.0 {
        let value = annotation
            .as_ref()
            .map_or("", |annotation| annotation.val.as_str());
        shape = match name.as_ref() {
            SCALE => map_leaf(shape, &|leaf| match (leaf, value.parse::<u32>()) {
                (Shape::Long { .. }, Ok(scale))
                    if scale <= MAX_SCALE && scale.to_string() == value =>
                {
                    Some(Shape::Long { scale })
                }
                _ => None,
            })
            .ok_or_else(|| {
                let message = format!("`{path}` has @{SCALE}(\"{}\")", value.escape_debug());
                (
                    message,
                    format!("give it a number from 0 to {MAX_SCALE}, and to a Long only"),
                )
            })?,
            JSON => map_leaf(shape, &|leaf| {
                (leaf == Shape::String).then_some(Shape::JsonText)
            })
            .ok_or_else(|| {
                (
                    format!("`{path}` has @{JSON}"),
                    "give it to a String only".to_owned(),
                )
            })?,
            _ => shape,
        };
    }
    Ok(shape)
}

fn map_leaf(shape: Shape, change: &impl Fn(Shape) -> Option<Shape>) -> Option<Shape> {
    if let Shape::Set(element) = shape {
        Some(Shape::Set(Box::new(map_leaf(*element, change)?)))
    } else {
        change(shape)
    }
}
