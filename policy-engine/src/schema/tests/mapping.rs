//! JSON under a shape becomes a value, or says where it does not fit.

use super::*;
use crate::json::Json;
use crate::value::{Decimal, Value};

pub(super) fn map(shape: &Shape, json: &str) -> Result<Value, Mismatch> {
    shape.map(&Json::parse(json.as_bytes(), 1 << 20).unwrap())
}

fn mismatch(shape: &Shape, json: &str) -> (String, &'static str) {
    let Mismatch { path, expected } = map(shape, json).unwrap_err();
    (path, expected)
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
