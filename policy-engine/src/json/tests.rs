//! JSON as hostile as it comes: nothing is guessed, nothing overflows.

use proptest::prelude::*;

use super::*;
use crate::limits::MAX_INPUT_BYTES;

fn parse(text: &str) -> Result<Json, JsonError> {
    Json::parse(text.as_bytes(), MAX_INPUT_BYTES)
}

fn number(literal: &str) -> Number {
    match parse(literal) {
        Ok(Json::Number(number)) => number,
        other => panic!("{literal}: {other:?}"),
    }
}

#[test]
fn numbers_keep_their_text_and_members_are_sorted() {
    let json = parse(
        " {\"b\": [1.50, -0, 1E+2, true, null], \"a\": {\"\\u00e9\\ud83d\\ude00\": \"\\n\"}} ",
    )
    .unwrap();
    assert_eq!(
        json.to_string(),
        r#"{"a":{"é😀":"\n"},"b":[1.50,-0,1E+2,true,null]}"#
    );
    assert_eq!(json.get("b").and_then(Json::as_array).unwrap().len(), 5);
    assert_eq!(
        json.get("a")
            .and_then(|a| a.get("é😀"))
            .and_then(Json::as_str),
        Some("\n")
    );
    assert_eq!(json.get("c"), None);
}

#[test]
fn what_is_not_json_is_refused_with_its_line() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "nul",
        "truth",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "NaN",
        "Infinity",
        "-",
        "0x10",
        "'a'",
        "\"\t\"",
        "\"\\x41\"",
        "[1] 2",
        "\u{feff}1",
        "/**/1",
        "1 //",
        "\"a",
        "{\"a\" 1}",
        "[1 2]",
        "{1:2}",
    ] {
        assert_eq!(parse(text), Err(JsonError::Malformed { line: 1 }), "{text}");
    }
    assert_eq!(parse("[\n1,\n\n,2]"), Err(JsonError::Malformed { line: 4 }));
}

#[test]
fn half_a_surrogate_pair_and_bytes_that_are_not_utf8_are_refused() {
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
    ] {
        assert_eq!(parse(text), Err(JsonError::Malformed { line: 1 }), "{text}");
        let as_key = format!("[\n{{{text}: 1}}]");
        assert_eq!(
            parse(&as_key),
            Err(JsonError::Malformed { line: 2 }),
            "{text}"
        );
    }
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc0\x80\"",
        b"\"\xed\xa0\x80\"",
        b"\xef\xbb",
    ] {
        assert_eq!(Json::parse(bytes, 100), Err(JsonError::NotUtf8));
    }
}

#[test]
fn equal_names_in_one_object_are_refused_however_they_are_written() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"":1,"b":2,"":3}"#,
    ] {
        assert_eq!(
            parse(text),
            Err(JsonError::DuplicateKey { line: 1 }),
            "{text}"
        );
    }
    assert_eq!(
        parse("[\n{\"x\": {\n\"a\":1,\n\"a\":2}}]"),
        Err(JsonError::DuplicateKey { line: 2 })
    );
    assert!(parse(r#"{"a":{"a":1},"A":2,"é":3,"e\u0301":4}"#).is_ok());
}

#[test]
fn depth_is_bounded_and_never_overflows_the_stack() {
    for (open, inner, close) in [("[", "1", "]"), ("{\"a\":", "{}", "}")] {
        let around = if inner == "1" {
            MAX_JSON_DEPTH
        } else {
            MAX_JSON_DEPTH - 1
        };
        let nested = |depth: usize| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        assert!(parse(&nested(around)).is_ok());
        assert_eq!(
            parse(&nested(around + 1)),
            Err(JsonError::TooDeep { line: 1 })
        );
        assert_eq!(parse(&nested(10_000)), Err(JsonError::TooDeep { line: 1 }));
        assert_eq!(
            parse(&open.repeat(10_000)),
            Err(JsonError::Malformed { line: 1 })
        );
    }
}

#[test]
fn size_and_count_are_bounded() {
    assert!(Json::parse(b"\"abc\"", 5).is_ok());
    assert_eq!(
        Json::parse(b"\"abcd\"", 5),
        Err(JsonError::TooLong { limit: 5 })
    );
    let array = |elements: usize| format!("[{}0]", "0,".repeat(elements - 1));
    let most = MAX_JSON_NODES - 1;
    assert!(Json::parse(array(most).as_bytes(), 3 * MAX_JSON_NODES).is_ok());
    let many = Json::parse(array(most + 1).as_bytes(), 3 * MAX_JSON_NODES);
    assert_eq!(many, Err(JsonError::TooMany));
}

#[test]
fn errors_never_show_what_was_sent() {
    for text in [
        r#"{"secret":1,"secret":2}"#,
        r#"{"secret": secret}"#,
        r#"["\ud800secret"]"#,
    ] {
        assert!(!parse(text).unwrap_err().to_string().contains("secret"));
    }
}

#[test]
fn numbers_scale_exactly_or_not_at_all() {
    for (literal, digits, expected) in [
        ("0", 0, Some(0)),
        ("-0.000", 4, Some(0)),
        ("0e999999999999999999999999", 18, Some(0)),
        ("1.0", 0, Some(1)),
        ("1e3", 0, Some(1_000)),
        ("1.5e1", 0, Some(15)),
        ("1500e-2", 0, Some(15)),
        ("1500E-3", 0, None),
        ("-12.34", 2, Some(-1_234)),
        ("-12.345", 2, None),
        ("0.1", 0, None),
        ("9223372036854775807", 0, Some(i64::MAX)),
        ("9223372036854775808", 0, None),
        ("-9223372036854775808", 0, Some(i64::MIN)),
        ("-9223372036854775809", 0, None),
        ("922337203685477.5807", 4, Some(i64::MAX)),
        (
            "922337203685477.58070000000000000000000000000000000000000000",
            4,
            Some(i64::MAX),
        ),
        ("922337203685477.5808", 4, None),
        ("0.00009", 4, None),
        ("1e18", 0, Some(1_000_000_000_000_000_000)),
        ("1e19", 0, None),
        ("1e99999999999999999999", 0, None),
        ("1e-99999999999999999999", 18, None),
        ("9007199254740993", 0, Some(9_007_199_254_740_993)),
        ("1e-18", 18, Some(1)),
    ] {
        assert_eq!(
            number(literal).scaled(digits),
            expected,
            "{literal} * 10^{digits}"
        );
    }
    let zeros = "0".repeat(100_000);
    assert_eq!(number(&format!("0.{zeros}7e100001")).scaled(0), Some(7));
    assert_eq!(number(&format!("7{zeros}e-100000")).scaled(0), Some(7));
    assert_eq!(number(&format!("7{zeros}e-99981")).scaled(0), None);
}

/// Moves the decimal point one place at a time, as one does on paper.
fn on_paper(
    negative: bool,
    whole: &str,
    fraction: &str,
    exponent: i32,
    digits: u32,
) -> Option<i64> {
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    let places = exponent + i32::try_from(digits).unwrap();
    for _ in 0..places.max(0) {
        whole.push(if fraction.is_empty() {
            '0'
        } else {
            fraction.remove(0)
        });
    }
    for _ in 0..(-places).max(0) {
        fraction.insert(0, whole.pop().unwrap_or('0'));
    }
    if fraction.chars().any(|digit| digit != '0') {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let whole = whole.trim_start_matches('0');
    format!("{sign}{}", if whole.is_empty() { "0" } else { whole })
        .parse()
        .ok()
}

fn arbitrary_json() -> impl Strategy<Value = Json> {
    let literal = "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        literal.prop_map(|literal| Json::Number(Number(literal))),
        any::<String>().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            proptest::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scaling_agrees_with_paper(
        negative: bool,
        whole in "0|[1-9][0-9]{0,20}",
        fraction in "[0-9]{0,2}0{0,3}[0-9]{0,4}0{0,3}",
        exponent in -25_i32..25,
        digits in 0_u32..=18,
    ) {
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let number = number(&format!("{sign}{whole}{point}{fraction}e{exponent}"));
        prop_assert_eq!(number.scaled(digits), on_paper(negative, &whole, &fraction, exponent, digits));
    }

    #[test]
    fn every_integer_survives_every_notation(value: i64, digits in 0_u32..=18, shift in -30_i64..30, zeros in 0_usize..5) {
        // `value` is written with its decimal point `shift` places from the right end.
        let magnitude = value.unsigned_abs().to_string();
        let padded = format!("{magnitude:0>40}{}", "0".repeat(40));
        let point = usize::try_from(40 + shift).unwrap();
        let whole = padded[..point].trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let sign = if value < 0 { "-" } else { "" };
        let exponent = -shift - i64::from(digits);
        let literal = format!("{sign}{whole}.{}{}e{exponent}", &padded[point..], "0".repeat(zeros));
        prop_assert_eq!(number(&literal).scaled(digits), Some(value));
    }

    #[test]
    fn canonical_text_reads_back_as_the_same_value(json in arbitrary_json()) {
        let text = json.to_string();
        prop_assert_eq!(parse(&text), Ok(json));
    }

    /// An independent reader agrees about what is JSON and, numbers aside, about what it says.
    #[test]
    fn another_reader_agrees(json in arbitrary_json(), cut in any::<prop::sample::Index>(), replacement in any::<Option<u8>>()) {
        let mut bytes = json.to_string().into_bytes();
        let at = cut.index(bytes.len());
        match replacement {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        match Json::parse(&bytes, MAX_INPUT_BYTES) {
            // Theirs also refuses numbers that no float can hold.
            Ok(ours) => if let Ok(theirs) = theirs {
                prop_assert!(agrees(&ours, &theirs));
            },
            Err(JsonError::DuplicateKey { .. }) => prop_assert!(theirs.is_ok()),
            Err(_) => prop_assert!(theirs.is_err()),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Json::parse(&bytes, MAX_INPUT_BYTES);
    }
}

fn agrees(ours: &Json, theirs: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (ours, theirs) {
        (Json::Null, Value::Null) | (Json::Number(_), Value::Number(_)) => true,
        (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::String(ours), Value::String(theirs)) => ours == theirs,
        (Json::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(ours, theirs)| agrees(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(name, ours)| theirs.get(name).is_some_and(|theirs| agrees(ours, theirs)))
        }
        _ => false,
    }
}
