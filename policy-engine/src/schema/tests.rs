//! Shapes of actions: resolved, bounded, and faithful to the text.

use super::*;
use crate::Diagnostic;

mod bounds;
mod mapping;
mod properties;

const CONTEXT: &str = "request: RequestContext, session: SessionContext, system: SystemContext";

/// The template with more declarations in its namespace.
fn with(declarations: &str) -> String {
    let template = TEMPLATE.trim_end().strip_suffix('}').unwrap();
    format!("{template}{declarations}\n}}\n")
}

fn action(input: &str) -> String {
    with(&format!(
        "action a in [CallTool] appliesTo {{ principal: [Agent], resource: [Resource], context: {{ input: {input}, {CONTEXT} }} }};"
    ))
}

fn shapes(text: &str) -> Shapes {
    Shapes::from_cedarschema("schema.cedarschema", text)
        .unwrap_or_else(|findings| panic!("{findings:#?}"))
}

fn refusals(text: &str) -> Vec<Diagnostic> {
    Shapes::from_cedarschema("schema.cedarschema", text).unwrap_err()
}

fn input(text: &str) -> Shape {
    shapes(text).get("a").unwrap().input.clone()
}

#[test]
fn the_template_is_a_schema_without_actions() {
    assert_eq!(shapes(TEMPLATE), Shapes::default());
}

#[test]
fn common_types_and_annotations_are_resolved() {
    let text = with(
        "type Money = Long; type Item = { name: String, @countersign_scale(\"2\") price: Money, tags?: Set<Set<__cedar::String>> };
         type Input = { items: Set<Item>, @countersign_json extra?: Other::Text, ok: Bool, rate: decimal,
                        @countersign_scale(\"6\") path: Set<Long>, nothing: {} };
         action \"bank/pay\" in [CallTool] appliesTo { principal: Agent, resource: Resource, context: Context };
         type Context = { input: Input, output?: { id: String }, request: RequestContext, session: SessionContext, system: SystemContext };
         action Group; entity Document;",
    ) + "namespace Other { type Text = String; entity Thing; }";
    let shapes = shapes(&text);
    assert_eq!(shapes.iter().count(), 1);
    let required = |shape| Attribute {
        shape,
        required: true,
    };
    let optional = |shape| Attribute {
        shape,
        required: false,
    };
    let record = |attributes: Vec<(&str, Attribute)>| {
        Shape::Record(
            attributes
                .into_iter()
                .map(|(name, attribute)| (name.to_owned(), attribute))
                .collect(),
        )
    };
    let set = |shape| Shape::Set(Box::new(shape));
    let item = record(vec![
        ("name", required(Shape::String)),
        ("price", required(Shape::Long { scale: 2 })),
        ("tags", optional(set(set(Shape::String)))),
    ]);
    let expected = record(vec![
        ("items", required(set(item))),
        ("extra", optional(Shape::JsonText)),
        ("ok", required(Shape::Bool)),
        ("rate", required(Shape::Decimal)),
        ("path", required(set(Shape::Long { scale: 6 }))),
        ("nothing", required(record(vec![]))),
    ]);
    let action = shapes.get("bank/pay").unwrap();
    assert_eq!(action.input, expected);
    assert_eq!(
        action.output,
        Some(record(vec![("id", required(Shape::String))]))
    );
}

#[test]
fn a_changed_or_incomplete_template_is_refused() {
    for (from, to, named) in [
        ("now: datetime", "now: String", "type SystemContext"),
        ("delegated: Bool, ", "", "type SessionContext"),
        (
            "entity Agent in [Group]",
            "entity Agent in [Group, Resource]",
            "entity Agent",
        ),
        (
            "} tags String;\n  @mcp_resource",
            "} tags Long;\n  @mcp_resource",
            "entity Agent",
        ),
        (
            "entity Gateway;",
            "entity Gateway in [Group];",
            "entity Gateway",
        ),
        (
            "action CallTool;",
            "action CallTool in [X]; action X;",
            "action CallTool",
        ),
        ("action CallTool;", "action Other;", "action CallTool"),
    ] {
        assert!(TEMPLATE.contains(from), "{from}");
        let findings = refusals(&TEMPLATE.replacen(from, to, 1));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].message.starts_with(&format!("`{named}` ")),
            "{findings:?}"
        );
    }
    assert!(
        refusals("namespace Other { entity Agent; }")[0]
            .message
            .contains("Countersign")
    );
    assert_eq!(refusals("").len(), 1);
    // The same words mean something else once a name in them is shadowed.
    let shadowed = refusals(&with("entity datetime;"));
    assert!(
        shadowed
            .iter()
            .any(|finding| finding.message.contains("SystemContext")),
        "{shadowed:?}"
    );
    // White space, comments and order mean nothing.
    shapes(&TEMPLATE.replace("; entity", ";\n// a comment\nentity"));
}

/// An action that is fine.
const GOOD: &str = "action a appliesTo { principal: [Agent], resource: [Resource], context: { input: {}, request: RequestContext, session: SessionContext, system: SystemContext } };";

/// What to replace in it, by what, and what the finding then says.
const BAD: &[(&str, &str, &str)] = &[
    (
        "principal: [Agent]",
        "principal: [Agent, Operator]",
        "Agent and a Resource",
    ),
    (
        "resource: [Resource]",
        "resource: [Group]",
        "Agent and a Resource",
    ),
    ("input: {}, ", "", "no required `input`"),
    ("input: {}", "input?: {}", "no required `input`"),
    ("input: {}", "input: String", "not a record"),
    ("input: {}", "input: {}, output: {}", "`output` is required"),
    ("input: {}", "input: {}, output?: Long", "not a record"),
    (
        "input: {}",
        "input: {}, ip: String",
        "nothing fills in `ip`",
    ),
    ("session: SessionContext, ", "", "no `session`"),
    (
        "session: SessionContext",
        "session?: SessionContext",
        "no `session`",
    ),
    (
        "system: SystemContext",
        "system: { now: datetime }",
        "no `system`",
    ),
    ("input: {}", "input: { when: datetime }", "`input.when`"),
    ("input: {}", "input: { who: Agent }", "`input.who`"),
    (
        "input: {}",
        "input: { deep: { ip: Set<ipaddr> } }",
        "`input.deep.ip`",
    ),
    (
        "input: {}",
        "input: { @countersign_scale(\"19\") x: Long }",
        "`input.x`",
    ),
    (
        "input: {}",
        "input: { @countersign_scale(\"02\") x: Long }",
        "`input.x`",
    ),
    (
        "input: {}",
        "input: { @countersign_scale x: Long }",
        "`input.x`",
    ),
    (
        "input: {}",
        "input: { @countersign_scale(\"2\") x: decimal }",
        "`input.x`",
    ),
    (
        "input: {}",
        "input: { @countersign_json x: Set<Long> }",
        "`input.x`",
    ),
    ("action a ", "action \"\" ", "its id"),
    ("action a ", "action \"a\\nb\" ", "its id"),
];

#[test]
fn actions_that_the_engine_could_not_fill_in_are_refused() {
    shapes(&with(GOOD));
    for (from, to, part) in BAD {
        let findings = refusals(&with(&format!("\n{}", GOOD.replacen(from, to, 1))));
        assert_eq!(findings.len(), 1, "{to}: {findings:?}");
        assert!(findings[0].message.contains(part), "{to}: {findings:?}");
        assert_eq!(findings[0].line, Some(15), "{to}: {findings:?}");
    }
    let long = format!("action \"{}\"", "x".repeat(257));
    assert_eq!(
        refusals(&with(&GOOD.replacen("action a", &long, 1))).len(),
        1
    );
    let elsewhere = format!("{TEMPLATE} namespace Other {{ action b; }}");
    assert!(refusals(&elsewhere)[0].message.contains("outside"));
}

#[test]
fn syntax_errors_name_their_line() {
    let findings = refusals(&with("\n\nentity;"));
    assert_eq!((findings.len(), findings[0].line), (1, Some(16)));
    let findings = refusals(&with("\n\ntype A = Nowhere;"));
    assert_eq!(findings.len(), 1);
}
