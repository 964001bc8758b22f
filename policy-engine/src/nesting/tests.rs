//! What the nesting guard refuses, and that what it lets through parses on a small stack.

use std::str::FromStr;

use cedar_policy::{PolicySet, Schema};
use dogwood_language::{LoweredPolicySet, PolicySchema, ServiceSchema};

use super::*;
use crate::schema::TEMPLATE;

fn nested(open: &str, depth: usize, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

fn rule(condition: &str) -> String {
    format!("permit(principal, action, resource) when {{ {condition} }};")
}

#[test]
fn brackets_are_allowed_up_to_the_limit_and_not_one_deeper() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{", "}"),
        ("Set<", ">"),
        ("Set <", ">"),
    ] {
        let deepest = nested(open, MAX_SOURCE_DEPTH, "x", close);
        assert_eq!(check_nesting(&deepest), Ok(()), "{open}");
        let deeper = format!("\n{}", nested(open, MAX_SOURCE_DEPTH + 1, "x", close));
        assert_eq!(
            check_nesting(&deeper),
            Err(NestingError::TooDeep { line: 2 }),
            "{open}"
        );
        assert!(
            check_nesting(&nested(open, 10_000, "x", close)).is_err(),
            "{open}"
        );
        assert!(check_nesting(&open.repeat(10_000)).is_err(), "{open}");
    }
    let side_by_side = nested("(", 2, "x", ")").repeat(10_000);
    assert_eq!(check_nesting(&side_by_side), Ok(()));
}

#[test]
fn operators_are_allowed_up_to_the_limit_of_a_statement() {
    for operator in [
        "!",
        "-",
        "+",
        "*",
        ".a",
        "&& a",
        "|| a",
        "if a then b else ",
        "exists (x: T). ",
    ] {
        let per_repeat = if operator.starts_with("exists") { 2 } else { 1 };
        let count = MAX_SOURCE_OPERATORS / per_repeat;
        let longest = format!("a {}", operator.repeat(count));
        assert_eq!(check_nesting(&longest), Ok(()), "{operator}");
        let too_long = Err(NestingError::TooLong { line: 1 });
        assert_eq!(
            check_nesting(&format!("{longest} {operator}")),
            too_long,
            "{operator}"
        );
        let statements = format!("{longest};\n{longest};");
        assert_eq!(check_nesting(&statements), Ok(()), "{operator}");
        let not_a_statement = format!("({longest}; {operator})");
        assert_eq!(check_nesting(&not_a_statement), too_long, "{operator}");
    }
}

#[test]
fn strings_and_comments_do_not_count() {
    let brackets = "(".repeat(1_000);
    for harmless in [
        format!("\"{brackets}\""),
        format!("\"\\\"{brackets}\\\\\""),
        format!("// {brackets}"),
        format!("x // {brackets}\n y"),
        format!("\"{brackets}"),
    ] {
        assert_eq!(check_nesting(&harmless), Ok(()), "{harmless}");
    }
    for harmful in [
        format!("\"\"{brackets}"),
        format!("\"\\\\\"{brackets}"),
        format!("// \n{brackets}"),
        format!("// \r{brackets}"),
        format!("/ / {brackets}"),
        format!("'{brackets}'"),
        format!("é{brackets}"),
    ] {
        assert!(check_nesting(&harmful).is_err(), "{harmful}");
    }
}

/// What the limits let through must not overflow the parsers, even on the two megabytes of a test's thread.
#[test]
fn parsers_survive_what_the_limits_allow() {
    let service = ServiceSchema::defaults();
    let schema = PolicySchema::from_cedarschema_str(TEMPLATE).unwrap();
    let depth = MAX_SOURCE_DEPTH - 1;
    for condition in [
        nested("(", depth, "true", ")"),
        nested("[", depth, "1", "]"),
        nested("{a:", depth, "1", "}"),
        nested("if (", depth, "true", ") then true else true"),
        format!("true{}", " && true".repeat(MAX_SOURCE_OPERATORS)),
        format!("true{}", " || true".repeat(MAX_SOURCE_OPERATORS)),
        format!("1{} == 1", " + 1".repeat(MAX_SOURCE_OPERATORS)),
        format!("principal{} == 1", ".a".repeat(MAX_SOURCE_OPERATORS)),
        format!("{}true", "!".repeat(MAX_SOURCE_OPERATORS)),
        format!(
            "{}true",
            "if true then true else ".repeat(MAX_SOURCE_OPERATORS)
        ),
        format!(
            "{}true{}",
            nested("(", depth, "", ""),
            ") && true".repeat(depth)
        ),
    ] {
        let rule = rule(&condition);
        assert_eq!(check_nesting(&rule), Ok(()), "{condition}");
        let _ = PolicySet::from_str(&rule);
        let _ = LoweredPolicySet::from_str(&rule, &service, &schema);
    }
    let set = nested("Set<", MAX_SOURCE_DEPTH - 2, "Long", ">");
    let records = nested("{a: ", MAX_SOURCE_DEPTH - 1, "Long", "}");
    for types in [
        format!("entity A = {{ s: {set} }};"),
        format!("entity B = {records};"),
    ] {
        assert_eq!(check_nesting(&types), Ok(()), "{types}");
        let (_schema, _warnings) = Schema::from_cedarschema_str(&types).unwrap();
    }
}
