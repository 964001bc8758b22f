//! From tool lists to schema text that Cedar and Dogwood read.

use dogwood_language::{LoweredPolicySet, PolicySchema, ServiceSchema, Validator};

use super::*;
use crate::schema::{Attribute, Shape, Shapes};

fn generate(server: Option<&str>, json: &str) -> (String, Shapes, Vec<Diagnostic>) {
    let json = Json::parse(json.as_bytes(), 1 << 20).unwrap();
    let manifest = Manifest {
        file: "manifest.json",
        server,
        json,
    };
    let (text, warnings) = to_cedarschema(&[manifest]).unwrap();
    let shapes = Shapes::from_cedarschema("manifest.json", &text)
        .unwrap_or_else(|findings| panic!("{text}\n{findings:?}"));
    (text, shapes, warnings)
}

fn refusals(json: &str) -> Vec<Diagnostic> {
    let json = Json::parse(json.as_bytes(), 1 << 20).unwrap();
    let manifest = Manifest {
        file: "manifest.json",
        server: Some("s"),
        json,
    };
    let findings = to_cedarschema(&[manifest]).unwrap_err();
    findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

/// The shape that one property of a tool's arguments gets, and whether there was a warning.
fn property(schema: &str) -> (Attribute, bool) {
    let manifest = format!(
        r##"[{{"name": "t", "inputSchema": {{"type": "object", "required": ["p"], "properties": {{"p": {schema}}},
            "$defs": {{"Node": {{"type": "object", "properties": {{"next": {{"$ref": "#/$defs/Node"}}}}}},
                       "Color": {{"enum": ["red"], "type": "string"}}}}}}}}]"##
    );
    let (_, shapes, warnings) = generate(None, &manifest);
    let Shape::Record(attributes) = &shapes.get("t").unwrap().input else {
        panic!()
    };
    (attributes["p"].clone(), !warnings.is_empty())
}

fn record(attributes: &[(&str, Shape, bool)]) -> Shape {
    let attributes = attributes.iter().map(|(name, shape, required)| {
        (
            name.to_string(),
            Attribute {
                shape: shape.clone(),
                required: *required,
            },
        )
    });
    Shape::Record(attributes.collect())
}

const LONG: Shape = Shape::Long { scale: 0 };

#[test]
fn json_schema_types_become_shapes() {
    let set = |shape| Shape::Set(Box::new(shape));
    for (schema, shape, required) in [
        (r#"{"type": "boolean"}"#, Shape::Bool, true),
        (r#"{"type": "integer", "minimum": 3}"#, LONG, true),
        (r#"{"type": "number"}"#, Shape::Decimal, true),
        (
            r#"{"type": "string", "format": "uri"}"#,
            Shape::String,
            true,
        ),
        (r#"{"enum": ["a", "b"]}"#, Shape::String, true),
        (r#"{"enum": ["a", null]}"#, Shape::String, false),
        (r#"{"enum": [1, 2]}"#, LONG, true),
        (r#"{"const": 1}"#, LONG, true),
        (r##"{"$ref": "#/$defs/Color"}"##, Shape::String, true),
        (
            r##"{"allOf": [{"$ref": "#/$defs/Color"}]}"##,
            Shape::String,
            true,
        ),
        (r#"{"type": ["string", "null"]}"#, Shape::String, false),
        (r#"{"type": ["integer", "number"]}"#, Shape::Decimal, true),
        (
            r#"{"anyOf": [{"type": "integer"}, {"type": "null"}]}"#,
            LONG,
            false,
        ),
        (
            r#"{"oneOf": [{"type": "string"}, {"enum": ["x"]}]}"#,
            Shape::String,
            true,
        ),
        (
            r#"{"type": "array", "items": {"type": "string"}}"#,
            set(Shape::String),
            true,
        ),
        (
            r#"{"type": "number", "x-countersign-scale": 2}"#,
            Shape::Long { scale: 2 },
            true,
        ),
        (
            r#"{"type": "integer", "x-countersign-scale": 18}"#,
            Shape::Long { scale: 18 },
            true,
        ),
        (
            r#"{"type": "array", "items": {"type": "number", "x-countersign-scale": 6}}"#,
            set(Shape::Long { scale: 6 }),
            true,
        ),
        (
            r#"{"properties": {"a": {"type": "string"}, "b": {"enum": [1]}}, "required": ["b"]}"#,
            record(&[("a", Shape::String, false), ("b", LONG, true)]),
            true,
        ),
        (
            r#"{"type": "array", "items": {"type": "object", "properties": {"a-b": {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}}}}}"#,
            set(record(&[("a-b", set(set(Shape::Bool)), false)])),
            true,
        ),
    ] {
        let expected = Attribute { shape, required };
        assert_eq!(property(schema), (expected, false), "{schema}");
    }
}

#[test]
fn what_cedar_cannot_type_becomes_json_text_with_a_warning() {
    for schema in [
        "true",
        "{}",
        r#"{"type": "object"}"#,
        r#"{"type": "object", "additionalProperties": true}"#,
        r#"{"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}"#,
        r#"{"type": "object", "patternProperties": {"x": {}}, "additionalProperties": false}"#,
        r#"{"type": ["string", "integer"]}"#,
        r#"{"type": "whatever"}"#,
        r#"{"type": 7}"#,
        r#"{"type": "array"}"#,
        r#"{"type": "array", "items": {"type": ["string", "null"]}}"#,
        r#"{"anyOf": [{"type": "string"}, {"type": "integer"}]}"#,
        r#"{"anyOf": []}"#,
        r#"{"allOf": [{"type": "string"}, {"minLength": 3}]}"#,
        r#"{"enum": ["a", 1]}"#,
        r#"{"enum": []}"#,
        r#"{"enum": [1.5]}"#,
        r#"{"$ref": "https://example.com/schema"}"#,
        r##"{"$ref": "#/$defs/Nowhere"}"##,
    ] {
        let expected = Attribute {
            shape: Shape::JsonText,
            required: true,
        };
        assert_eq!(property(schema), (expected, true), "{schema}");
    }
    let (empty, warned) = property(r#"{"type": "object", "additionalProperties": false}"#);
    assert_eq!((empty.shape, warned), (record(&[]), false));
    let (null, warned) = property(r#"{"type": "null"}"#);
    let expected = Attribute {
        shape: Shape::JsonText,
        required: false,
    };
    assert_eq!((null, warned), (expected, true));
    let (list, warned) = property(
        r#"{"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "null"}]}"#,
    );
    let expected = Attribute {
        shape: Shape::Set(Box::new(Shape::JsonText)),
        required: false,
    };
    assert_eq!((list, warned), (expected, true));
}

#[test]
fn a_schema_that_contains_itself_ends_in_json_text() {
    let (node, warned) = property(r##"{"$ref": "#/$defs/Node"}"##);
    assert_eq!(node.shape, record(&[("next", Shape::JsonText, false)]));
    assert!(warned);
}

#[test]
fn deep_schemas_end_in_json_text_and_wide_ones_are_refused() {
    let mut deep = r#"{"type": "string"}"#.to_owned();
    for _ in 0..13 {
        deep = format!(r#"{{"type": "object", "properties": {{"p": {deep}}}}}"#);
    }
    assert!(!property(&deep).1);

    // References make a document nest deeper than its text does.
    let chain: Vec<String> = (0..40)
        .map(|n| {
            let next = n + 1;
            format!(r##""N{n}": {{"properties": {{"p": {{"$ref": "#/$defs/N{next}"}}}}}}"##)
        })
        .collect();
    let manifest = format!(
        r##"[{{"name": "t", "inputSchema": {{"$ref": "#/$defs/N0", "$defs": {{{}}}}}}}]"##,
        chain.join(",")
    );
    let (_, shapes, warnings) = generate(None, &manifest);
    assert_eq!((shapes.iter().count(), warnings.len()), (1, 1));

    let wide = (0..14)
        .map(|n| {
            let next = n + 1;
            format!(r##""N{n}": {{"properties": {{"p": {{"$ref": "#/$defs/N{next}"}}, "q": {{"$ref": "#/$defs/N{next}"}}}}}}"##)
        })
        .collect::<Vec<_>>()
        .join(",");
    let manifest = format!(
        r##"[{{"name": "t", "inputSchema": {{"$ref": "#/$defs/N0", "$defs": {{{wide}}}}}}}]"##
    );
    assert_eq!(refusals(&manifest).len(), 1);
}

#[test]
fn names_of_any_kind_reach_cedar_and_dogwood() {
    let manifest = r#"{"result": {"tools": [
        {"name": "get-weather", "inputSchema": {"type": "object", "required": ["in"], "properties": {
            "in": {"type": "string"}, "a.b": {"type": "integer"}, "quote\"d": {"type": "boolean"}, "é\u0301\n": {"type": "number"},
            "if": {"type": "number", "x-countersign-scale": 2}, "": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x-y": {"type": "string"}}}}}}},
        {"name": "a.b", "inputSchema": {"type": "object", "properties": {}},
         "outputSchema": {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}},
        {"name": "in", "inputSchema": {"type": "object", "additionalProperties": false}}
    ]}}"#;
    let (text, shapes, warnings) = generate(Some("wéather"), manifest);
    assert_eq!(warnings, []);
    let ids: Vec<_> = shapes.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["wéather/a.b", "wéather/get-weather", "wéather/in"]);
    let Shape::Record(attributes) = &shapes.get("wéather/get-weather").unwrap().input else {
        panic!()
    };
    let names: Vec<_> = attributes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["", "a.b", "if", "in", "list", "quote\"d", "é\u{301}\n"]
    );
    assert_eq!(
        shapes.get("wéather/a.b").unwrap().output,
        Some(record(&[("ok", Shape::Bool, true)]))
    );

    let rules = r#"
        @id("weather") permit(principal, action == Countersign::Action::"wéather/get-weather", resource)
        when { context.input.in == "Oslo" && context.input["a.b"] > 3 }
        when temporal { formerly within 1h Countersign::Action::"wéather/a.b"::response{ output.ok: true } };"#
        .replace(r#"context.input["a.b"] > 3"#, r#"context.input has "a.b" && context.input["a.b"] > 3"#);
    let service = ServiceSchema::defaults();
    let schema = PolicySchema::from_cedarschema_str(&text).unwrap();
    let lowered = LoweredPolicySet::from_str(&rules, &service, &schema).unwrap();
    let result = Validator::new().validate(&lowered);
    assert!(result.validation_passed(), "{result:?}");
    let wrong =
        LoweredPolicySet::from_str(&rules.replace("output.ok", "output.ko"), &service, &schema);
    assert!(
        wrong.is_err()
            || !Validator::new()
                .validate(&wrong.unwrap())
                .validation_passed()
    );
}

#[test]
fn the_text_is_deterministic_and_sorted() {
    let tool = |name: &str| {
        format!(
            r#"{{"name": "{name}", "parameters": {{"type": "object", "properties": {{"b": {{"type": "integer", "x-countersign-scale": 2}}, "a": {{}}}}}}}}"#
        )
    };
    let (one, ..) = generate(Some("s"), &format!("[{}, {}]", tool("y"), tool("x")));
    let (other, ..) = generate(
        Some("s"),
        &format!(r#"{{"tools": [{}, {}]}}"#, tool("x"), tool("y")),
    );
    assert_eq!(one, other);
    let generated = one
        .split_once("@mcp_action(\"CallTool\") action CallTool;\n")
        .unwrap()
        .1;
    let expected = r#"
  action "s/x" in [CallTool] appliesTo {
    principal: [Agent],
    resource: [Resource],
    context: {
      "input": {
        @countersign_json
        "a"?: String,
        @countersign_scale("2")
        "b"?: Long,
      },
      request: RequestContext,
      session: SessionContext,
      system: SystemContext
    }
  };
"#;
    assert!(generated.starts_with(expected), "{generated}");
}

#[test]
fn a_manifest_may_group_tools_by_server() {
    let manifest = r#"{"bank": [{"name": "pay", "parameters": {"type": "object"}}], "mail": []}"#;
    let (_, shapes, _) = generate(None, manifest);
    assert_eq!(
        shapes.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        ["bank/pay"]
    );
    assert_eq!(refusals(manifest).len(), 1);
}

#[test]
fn what_could_not_work_is_refused_with_a_mend() {
    let long = "n".repeat(255);
    let schema = r#""inputSchema": {"type": "object"}"#;
    for manifest in [
        "{}".to_owned(),
        "7".to_owned(),
        r#"{"tools": 7}"#.to_owned(),
        "[{}]".to_owned(),
        r#"[{"name": "x"}]"#.to_owned(),
        format!(r#"[{{"name": "", {schema}}}]"#),
        format!(r#"[{{"name": "{long}", {schema}}}]"#),
        format!(r#"[{{"name": "a\nb", {schema}}}]"#),
        format!(r#"[{{"name": "x", {schema}}}, {{"name": "x", {schema}}}]"#),
        r#"[{"name": "x", "inputSchema": {"type": "string"}}]"#.to_owned(),
        r#"[{"name": "x", "inputSchema": {"type": "object", "required": ["gone"]}}]"#.to_owned(),
        r#"[{"name": "x", "inputSchema": {"properties": {"p": {"type": "number", "x-countersign-scale": 19}}}}]"#.to_owned(),
        r#"[{"name": "x", "inputSchema": {"properties": {"p": {"type": "number", "x-countersign-scale": 0.5}}}}]"#.to_owned(),
        r#"[{"name": "x", "inputSchema": {"properties": {"p": {"type": "string", "x-countersign-scale": 2}}}}]"#.to_owned(),
    ] {
        let findings = refusals(&manifest);
        assert_eq!(findings.len(), 1, "{manifest}: {findings:?}");
        assert!(!findings[0].mend.is_empty());
    }
}
