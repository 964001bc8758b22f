//! Values as bytes: one encoding for each value, and no other.

use proptest::prelude::*;

use super::*;

fn arbitrary_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Long),
        any::<i64>().prop_map(|number| Value::Decimal(Decimal(number))),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::btree_set(inner.clone(), 0..5).prop_map(Value::Set),
            proptest::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Value::Record),
        ]
    })
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Long(1), |value, _| {
        Value::Set(BTreeSet::from([value]))
    })
}

/// These bytes are stored for ever; this test must not change without a new engine version.
#[test]
fn the_encoding_is_pinned() {
    let value = Value::Record(BTreeMap::from([
        ("amount".to_owned(), Value::Decimal(Decimal(-15_000))),
        (
            "flags".to_owned(),
            Value::Set(BTreeSet::from([Value::Bool(true), Value::Bool(false)])),
        ),
        ("note".to_owned(), Value::String("é".to_owned())),
        ("n".to_owned(), Value::Long(258)),
    ]));
    let expected = [
        &b"\x06\0\0\0\x04"[..],
        b"\0\0\0\x06amount\x03\xff\xff\xff\xff\xff\xff\xc5\x68",
        b"\0\0\0\x05flags\x05\0\0\0\x02\x00\x01",
        b"\0\0\0\x01n\x02\0\0\0\0\0\0\x01\x02",
        b"\0\0\0\x04note\x04\0\0\0\x02\xc3\xa9",
    ]
    .concat();
    assert_eq!(value.to_bytes(), expected);
    assert_eq!(Value::from_bytes(&expected), Ok(value));
}

#[test]
fn anything_but_the_one_encoding_is_refused() {
    for (bytes, error) in [
        (&b""[..], DecodeError::CutShort),
        (b"\x07", DecodeError::UnknownTag),
        (b"\x00\x00", DecodeError::TrailingBytes),
        (b"\x02\0\0\0", DecodeError::CutShort),
        (b"\x04\0\0\0\x02a", DecodeError::CutShort),
        (b"\x04\xff\xff\xff\xffa", DecodeError::CutShort),
        (b"\x04\0\0\0\x01\xff", DecodeError::NotUtf8),
        (b"\x05\xff\xff\xff\xff", DecodeError::CutShort),
        (b"\x05\0\0\0\x02\x01\x00", DecodeError::OutOfOrder),
        (b"\x05\0\0\0\x02\x01\x01", DecodeError::OutOfOrder),
        (
            b"\x06\0\0\0\x02\0\0\0\x01b\x00\0\0\0\x01a\x00",
            DecodeError::OutOfOrder,
        ),
        (
            b"\x06\0\0\0\x02\0\0\0\x01a\x00\0\0\0\x01a\x00",
            DecodeError::OutOfOrder,
        ),
    ] {
        assert_eq!(Value::from_bytes(bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deepest = nested(MAX_JSON_DEPTH);
    assert_eq!(Value::from_bytes(&deepest.to_bytes()), Ok(deepest));
    assert_eq!(
        Value::from_bytes(&nested(MAX_JSON_DEPTH + 1).to_bytes()),
        Err(DecodeError::TooDeep)
    );
    let hostile = b"\x05\0\0\0\x01".repeat(100_000);
    assert_eq!(Value::from_bytes(&hostile), Err(DecodeError::TooDeep));
    let longest = Value::String("x".repeat(MAX_VALUE_BYTES - 5));
    assert_eq!(Value::from_bytes(&longest.to_bytes()), Ok(longest));
    let longer = Value::String("x".repeat(MAX_VALUE_BYTES - 4));
    assert_eq!(
        Value::from_bytes(&longer.to_bytes()),
        Err(DecodeError::TooLong)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_decodes_to_the_same_value(value in arbitrary_value()) {
        prop_assert_eq!(Value::from_bytes(&value.to_bytes()), Ok(value));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        value in arbitrary_value(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut bytes = value.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = Value::from_bytes(&bytes) {
            prop_assert_eq!(decoded.to_bytes(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_decode_canonically_or_not_at_all(bytes in proptest::collection::vec(0_u8..8, 0..60)) {
        if let Ok(decoded) = Value::from_bytes(&bytes) {
            prop_assert_eq!(decoded.to_bytes(), bytes);
        }
    }
}
