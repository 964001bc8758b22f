//! Cedar schema text, with every name quoted.

use std::collections::BTreeMap;

use crate::schema::{ActionSchema, Attribute, JSON, SCALE, Shape, TEMPLATE};

/// The action group of the template that all tools are in.
pub(super) const GROUP: &str = "CallTool";

/// The template, and the actions in its namespace, sorted by id.
pub(super) fn schema(actions: &BTreeMap<String, ActionSchema>) -> String {
    let template = TEMPLATE.trim_end().trim_end_matches('}');
    let mut text = format!("// Generated from the bundle's manifests.\n{template}");
    for (id, action) in actions {
        text.push_str(&format!(
            "\n  action {} in [{GROUP}] appliesTo {{\n    principal: [Agent],\n    resource: [Resource],\n    context: {{\n",
            quoted(id)
        ));
        let input = Attribute {
            shape: action.input.clone(),
            required: true,
        };
        attribute("input", &input, 6, &mut text);
        if let Some(output) = &action.output {
            let output = Attribute {
                shape: output.clone(),
                required: false,
            };
            attribute("output", &output, 6, &mut text);
        }
        text.push_str("      request: RequestContext,\n      session: SessionContext,\n      system: SystemContext\n    }\n  };\n");
    }
    text.push_str("}\n");
    text
}

fn attribute(name: &str, attribute: &Attribute, indent: usize, text: &mut String) {
    let margin = " ".repeat(indent);
    match leaf(&attribute.shape) {
        Shape::Long { scale } if *scale > 0 => {
            text.push_str(&format!("{margin}@{SCALE}(\"{scale}\")\n"));
        }
        Shape::JsonText => text.push_str(&format!("{margin}@{JSON}\n")),
        Shape::Long { .. }
        | Shape::Bool
        | Shape::Decimal
        | Shape::String
        | Shape::Set(_)
        | Shape::Record(_) => {}
    }
    let optional = if attribute.required { "" } else { "?" };
    text.push_str(&format!("{margin}{}{optional}: ", quoted(name)));
    write_type(&attribute.shape, indent, text);
    text.push_str(",\n");
}

/// What an attribute's annotations are about: its type, or that of the elements of its sets.
fn leaf(shape: &Shape) -> &Shape {
    if let Shape::Set(element) = shape {
        leaf(element)
    } else {
        shape
    }
}

fn write_type(shape: &Shape, indent: usize, text: &mut String) {
    match shape {
        Shape::Bool => text.push_str("Bool"),
        Shape::Long { .. } => text.push_str("Long"),
        Shape::Decimal => text.push_str("decimal"),
        Shape::String | Shape::JsonText => text.push_str("String"),
        Shape::Set(element) => {
            text.push_str("Set<");
            write_type(element, indent, text);
            text.push('>');
        }
        Shape::Record(attributes) => {
            text.push_str("{\n");
            for (name, value) in attributes {
                attribute(name, value, indent + 2, text);
            }
            text.push_str(&format!("{}}}", " ".repeat(indent)));
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}
