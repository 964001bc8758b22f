//! The beginning of a bundle, from what an MCP server says about its tools.
//!
//! It permits nothing. A tool's name and description are its author's word, so that not even a tool called `read` is let
//! through for its name: each tool gets a rule that its bundle's author reads, narrows, and only then uncomments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::bundle::Bundle;
use crate::diagnostic::Diagnostic;
use crate::limits::{MAX_RULE_ID_BYTES, MAX_STEPS};
use crate::schema::{ActionSchema, Attribute, Shape};

const HEADER: &str = "bundle.toml";
const MANIFEST: &str = "tools.json";
const RULES: &str = "rules/tools.dw";
const CASES: &str = "tests/tools.json";

/// Words that Cedar does not take as the name of an attribute.
const RESERVED: [&str; 9] = [
    "true", "false", "if", "then", "else", "in", "is", "like", "has",
];

/// The files of a bundle for the tools of a manifest, by path. The server, if there is one, is the first part of the actions'
/// ids.
///
/// # Errors
/// What is wrong with the name, the server or the manifest.
pub fn skeleton(
    name: &str,
    server: Option<&str>,
    manifest: &str,
) -> Result<BTreeMap<String, Vec<u8>>, Vec<Diagnostic>> {
    let mut files = BTreeMap::from([
        (HEADER.to_owned(), header(name, server).into_bytes()),
        (MANIFEST.to_owned(), manifest.as_bytes().to_vec()),
    ]);
    let bundle = Bundle::from_files(files.clone())?;
    let actions: Vec<_> = bundle.shapes().iter().collect();
    files.insert(RULES.to_owned(), rules(&actions).into_bytes());
    files.insert(CASES.to_owned(), cases(&actions).into_bytes());
    Bundle::from_files(files.clone())?;
    Ok(files)
}

fn header(name: &str, server: Option<&str>) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let server = server.map_or_else(String::new, |server| {
        format!("server = {}\n", quoted(server))
    });
    format!(
        "name = {}\n# Whose past rules read: agent, session, subject, owner or namespace.\nhistory = \"agent\"\n\n\
         [[manifest]]\n{server}file = \"{MANIFEST}\"\n",
        quoted(name)
    )
}

fn rules(actions: &[(&str, &ActionSchema)]) -> String {
    let mut text = "\
/// Nothing is permitted yet. Each rule below permits one tool with arguments as narrow as can be said without knowing it:
/// read it, put your own bounds in the place of its, and uncomment it. What no rule permits is denied.
"
    .to_owned();
    let mut taken = BTreeSet::new();
    for (id, schema) in actions {
        let _ = write!(text, "\n{}", rule(id, schema, &mut taken));
    }
    text
}

/// A permit, commented out; lines with three slashes say what it is about.
fn rule(action: &str, schema: &ActionSchema, taken: &mut BTreeSet<String>) -> String {
    let shown = action.escape_debug();
    let mut text = format!("/// {shown}\n");
    let mut bounds = Vec::new();
    let nothing = BTreeMap::new();
    let arguments = if let Shape::Record(arguments) = &schema.input {
        arguments
    } else {
        &nothing
    };
    for (name, Attribute { shape, required }) in arguments {
        let name = name.escape_debug().to_string();
        let mark = if *required { "" } else { "?" };
        let _ = write!(text, "///   {name}{mark}: {}", named(shape));
        match bound(&name, shape) {
            Some(bound) if *required => bounds.push(bound),
            Some(bound) => {
                bounds.push(format!("(if {} then {bound} else true)", has(&name)));
            }
            None => text.push_str(", which the rule does not bound"),
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "// @id(\"{}\")\n// permit (principal, action == Countersign::Action::\"{shown}\", resource)",
        rule_id(action, taken)
    );
    if !bounds.is_empty() {
        let _ = write!(
            text,
            "\n// when {{\n//   {}\n// }}",
            bounds.join(" &&\n//   ")
        );
    }
    text.push_str(";\n");
    text
}

/// The argument in a rule; the name is escaped.
fn argument(name: &str) -> String {
    if is_identifier(name) {
        format!("context.input.{name}")
    } else {
        format!("context.input[\"{name}\"]")
    }
}

fn has(name: &str) -> String {
    if is_identifier(name) {
        format!("context.input has {name}")
    } else {
        format!("context.input has \"{name}\"")
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&name)
}

/// The narrowest condition that says something about an argument of this shape.
fn bound(name: &str, shape: &Shape) -> Option<String> {
    let argument = argument(name);
    let granted = |test: &str| {
        format!(
            "(context.session.grants.hasTag(\"{name}\") && context.session.grants.getTag(\"{name}\").{test}({argument}))"
        )
    };
    Some(match shape {
        Shape::Bool => format!("{argument} == false"),
        Shape::Long { .. } => format!("{argument} <= 0"),
        Shape::Decimal => format!("{argument}.lessThanOrEqual(decimal(\"0.0\"))"),
        Shape::String => granted("contains"),
        Shape::Set(element) if **element == Shape::String => granted("containsAll"),
        Shape::Set(_) => format!("{argument}.isEmpty()"),
        Shape::JsonText | Shape::Record(_) => return None,
    })
}

fn named(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "Bool".to_owned(),
        Shape::Long { scale: 0 } => "Long".to_owned(),
        Shape::Long { scale } => format!("Long, in units of 10^-{scale}"),
        Shape::Decimal => "decimal".to_owned(),
        Shape::String => "String".to_owned(),
        Shape::JsonText => "any JSON".to_owned(),
        Shape::Set(element) => format!("Set<{}>", named(element)),
        Shape::Record(_) => "a record".to_owned(),
    }
}

/// An id made of what the action's id holds of letters, digits, `_`, `.` and `-`.
fn rule_id(action: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
            c
        } else {
            '-'
        }
    };
    // Room for a number.
    let stem: String = action
        .chars()
        .map(plain)
        .take(MAX_RULE_ID_BYTES - 8)
        .collect();
    let id = (1_u32..)
        .map(|number| {
            if number == 1 {
                stem.clone()
            } else {
                format!("{stem}-{number}")
            }
        })
        .find(|id| !taken.contains(id))
        .unwrap_or_default();
    taken.insert(id.clone());
    id
}

/// A case in which every tool is asked for and denied: an author changes it together with the rules.
fn cases(actions: &[(&str, &ActionSchema)]) -> String {
    let quoted = |text: &str| crate::json::Json::String(text.to_owned()).to_string();
    let steps = actions.iter().take(MAX_STEPS).map(|(id, schema)| {
        format!(
            "    {{\"at_s\": 0, \"request\": {{\"action\": {}, \"input\": {}}},\n     \
             \"expect\": {{\"verdict\": \"DENY\", \"reason\": \"NO_MATCHING_PERMIT\"}}}}",
            quoted(id),
            sample(&schema.input)
        )
    });
    format!(
        "{{\"cases\": [\n  {{\"name\": \"nothing is permitted until a rule says so\", \"steps\": [\n{}\n  ]}}\n]}}\n",
        steps.collect::<Vec<_>>().join(",\n")
    )
}

/// The smallest JSON that fits a shape.
fn sample(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "false".to_owned(),
        Shape::Long { .. } | Shape::Decimal => "0".to_owned(),
        Shape::String => "\"\"".to_owned(),
        Shape::JsonText => "null".to_owned(),
        Shape::Set(_) => "[]".to_owned(),
        Shape::Record(attributes) => {
            let required = attributes
                .iter()
                .filter(|(_, attribute)| attribute.required);
            let members = required.map(|(name, attribute)| {
                let name = crate::json::Json::String(name.clone());
                format!("{name}: {}", sample(&attribute.shape))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
