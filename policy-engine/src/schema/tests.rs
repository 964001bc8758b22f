use super::*;
use crate::Diagnostic;
use crate::json::Json;
use crate::limits::{MAX_ACTIONS, MAX_ENTITY_TYPES, MAX_JSON_DEPTH, MAX_SCHEMA_BYTES};
use crate::value::{Decimal, Value};

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

fn map(shape: &Shape, json: &str) -> Result<Value, Mismatch> {
    shape.map(&Json::parse(json.as_bytes(), 1 << 20).unwrap())
}

fn mismatch(shape: &Shape, json: &str) -> (String, &'static str) {
    let Mismatch { path, expected } = map(shape, json).unwrap_err();
    (path, expected)
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
        assert_eq!(findings[0].line, Some(14), "{to}: {findings:?}");
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
    assert_eq!((findings.len(), findings[0].line), (1, Some(15)));
    let findings = refusals(&with("\n\ntype A = Nowhere;"));
    assert_eq!(findings.len(), 1);
}

#[test]
fn types_are_bounded_however_they_are_written() {
    // Each doubles the one before: Cedar would write out 2^40 attributes.
    let doubling = |count: usize| {
        let types: String = (1..=count)
            .map(|n| format!("type T{n} = {{ a: T{0}, b: T{0} }};", n - 1))
            .collect();
        format!("type T0 = Long; {types}")
    };
    shapes(&with(&doubling(8)));
    for declarations in [
        doubling(40),
        doubling(20) + "entity E = T20;",
        "type A = { a: A };".to_owned(),
        "type A = B; type B = C; type C = A;".to_owned(),
        "type A = Set<A>;".to_owned(),
        "type A = { b?: B }; type B = { a?: A };".to_owned(),
    ] {
        assert_eq!(refusals(&with(&declarations)).len(), 1, "{declarations}");
    }
    let chain = |count: usize| {
        let links: String = (1..=count)
            .map(|n| format!("type T{n} = T{};", n - 1))
            .collect();
        with(&format!("type T0 = Long; {links}"))
    };
    shapes(&chain(MAX_JSON_DEPTH - 1));
    assert_eq!(refusals(&chain(MAX_JSON_DEPTH)).len(), 1);
    assert_eq!(refusals(&chain(5_000)).len(), 1);

    let wide = |count: usize| {
        let attributes: String = (0..count).map(|n| format!("x{n}: Long,")).collect();
        action(&format!("{{ {attributes} }}"))
    };
    shapes(&wide(3_000));
    assert_eq!(refusals(&wide(5_000)).len(), 1);

    for hostile in ["Set<", "{a:", "((", "[", "{ a: Set<"] {
        let text = action(&hostile.repeat(10_000));
        assert!(refusals(&text)[0].message.contains("nest"), "{hostile}");
    }
    let long = format!("{TEMPLATE}//{}", " ".repeat(MAX_SCHEMA_BYTES));
    assert!(refusals(&long)[0].message.contains("longer"));
}

#[test]
fn the_numbers_of_actions_and_entity_types_are_bounded() {
    let actions = |count: usize| -> String {
        (0..count)
            .map(|n| format!("action a{n} appliesTo {{ principal: [Agent], resource: [Resource], context: {{ input: {{}}, {CONTEXT} }} }};\n"))
            .collect()
    };
    // One more is the template's.
    let most = MAX_ACTIONS - 1;
    assert_eq!(shapes(&with(&actions(most))).iter().count(), most);
    assert_eq!(refusals(&with(&actions(most + 1))).len(), 1);

    // The worst that Cedar has to close transitively: each is in the one before.
    let chain = |kind: &str, count: usize| -> String {
        let links = (1..count).map(|n| format!("{kind} c{n} in [c{}];\n", n - 1));
        format!("{kind} c0; {}", links.collect::<String>())
    };
    assert_eq!(refusals(&with(&chain("action", most + 1))).len(), 1);
    let most = MAX_ENTITY_TYPES - 6;
    shapes(&with(&chain("entity", most)));
    assert_eq!(refusals(&with(&chain("entity", most + 1))).len(), 1);
}

#[test]
fn values_fit_exactly_or_not_at_all() {
    let long = Shape::Long { scale: 0 };
    let money = Shape::Long { scale: 2 };
    for (shape, json, value) in [
        (&long, "1.0", Value::Long(1)),
        (&long, "1e3", Value::Long(1_000)),
        (&long, "-9223372036854775808", Value::Long(i64::MIN)),
        (&money, "12.5", Value::Long(1_250)),
        (&money, "0.1e1", Value::Long(100)),
        (&Shape::Decimal, "12", Value::Decimal(Decimal(120_000))),
        (&Shape::Decimal, "-0.0001", Value::Decimal(Decimal(-1))),
        (&Shape::Bool, "false", Value::Bool(false)),
        (
            &Shape::String,
            r#""e\u0301\u0000""#,
            Value::String("e\u{301}\0".to_owned()),
        ),
        (
            &Shape::JsonText,
            r#"{"b": 1.0, "a": null}"#,
            Value::String(r#"{"a":null,"b":1.0}"#.to_owned()),
        ),
        (&Shape::JsonText, "null", Value::String("null".to_owned())),
    ] {
        assert_eq!(map(shape, json), Ok(value), "{shape:?} {json}");
    }
    for (shape, json) in [
        (&long, "1.5"),
        (&long, "\"1\""),
        (&long, "null"),
        (&long, "9223372036854775808"),
        (&long, "true"),
        (&money, "12.345"),
        (&money, "92233720368547758.08"),
        (&Shape::Decimal, "0.00001"),
        (&Shape::Decimal, "922337203685477.5808"),
        (&Shape::Decimal, "\"1.0\""),
        (&Shape::Bool, "0"),
        (&Shape::Bool, "\"true\""),
        (&Shape::String, "1"),
        (&Shape::String, "null"),
    ] {
        assert_eq!(mismatch(shape, json).0, "", "{shape:?} {json}");
    }
}

#[test]
fn records_are_closed_and_sets_are_sets() {
    let shape = input(&action(
        "{ name: String, \"a/~b\"?: Set<Long>, inner?: { list: Set<{ x: Bool }> } }",
    ));
    let one = map(&shape, r#"{"name": "n", "a/~b": [2, 1, 2.0, 20e-1]}"#).unwrap();
    let Value::Record(attributes) = &one else {
        panic!()
    };
    assert_eq!(attributes.len(), 2);
    assert_eq!(
        attributes["a/~b"],
        Value::Set([Value::Long(1), Value::Long(2)].into())
    );
    assert_eq!(
        map(&shape, r#"{"name": "n", "a/~b": null}"#),
        map(&shape, r#"{"name": "n"}"#)
    );

    let undeclared = "no attribute that the schema does not declare";
    for (json, path, expected) in [
        ("[]", "", "an object"),
        ("{}", "/name", "a value, because the attribute is required"),
        (r#"{"name": null}"#, "/name", "a string"),
        (r#"{"name": "n", "Name": 1}"#, "", undeclared),
        (r#"{"name": "n", "extra": null}"#, "", undeclared),
        (
            r#"{"name": "n", "a/~b": [1, "x"]}"#,
            "/a~1~0b/1",
            "a number",
        ),
        (r#"{"name": "n", "a/~b": 1}"#, "/a~1~0b", "an array"),
        (
            r#"{"name": "n", "inner": {"list": [{"x": true}, {"x": 1}]}}"#,
            "/inner/list/1/x",
            "a boolean",
        ),
        (
            r#"{"name": "n", "inner": {"list": [{"x": true, "y": 1}]}}"#,
            "/inner/list/0",
            undeclared,
        ),
        (
            r#"{"name": "n", "inner": {}}"#,
            "/inner/list",
            "a value, because the attribute is required",
        ),
    ] {
        assert_eq!(
            mismatch(&shape, json),
            (path.to_owned(), expected),
            "{json}"
        );
    }
}
