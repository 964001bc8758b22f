//! Bundles of strangers, arguments of agents, and the stored past.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use policy_engine::limits::MAX_INPUT_BYTES;
use policy_engine::{Bundle, BundleDigest, Compiled, Json, Shapes, Value, check_record};

use crate::kit::{RULES, TOOLS, bundle};

/// Every type that a manifest can ask for.
pub(super) const RICH_TOOLS: &str = r#"{"tools": [
  {"name": "all", "inputSchema": {"type": "object", "properties": {
      "flag": {"type": "boolean"}, "count": {"type": "integer"}, "rate": {"type": "number"},
      "cents": {"type": "number", "x-countersign-scale": 2},
      "name": {"type": "string"}, "maybe": {"type": ["string", "null"]},
      "tags": {"type": "array", "items": {"type": "string"}},
      "inner": {"type": "object", "properties": {"deep": {"type": "array", "items": {"type": "integer"}}},
        "required": ["deep"], "additionalProperties": false},
      "any": {}}, "required": ["flag"]}}
]}"#;

/// The largest rules, schema or manifest that is compiled here: time is for variety.
const MAX_SOURCE: usize = 4_096;

/// The first byte says what the rest is: a packed bundle, or one file of a bundle whose other files are sound.
///
/// # Panics
/// If reading or compiling does, or a bundle has two packed forms.
pub fn target_bundle(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 6 == 0 {
        if let Ok(read) = Bundle::from_packed(rest) {
            assert_eq!(read.pack(), rest, "a bundle has one packed form");
            assert_eq!(read.digest(), BundleDigest::of(rest));
            drop(Compiled::compile(&read));
        }
        return;
    }
    if rest.len() > MAX_SOURCE {
        return;
    }
    let mut files: BTreeMap<String, Vec<u8>> = bundle("agent", RULES)
        .files()
        .iter()
        .map(|file| (file.path.clone(), file.text.clone().into_bytes()))
        .collect();
    let path = match kind % 6 {
        1 => "rules/bank.dw",
        2 => "manifest.json",
        3 => "bundle.toml",
        4 => "entities.json",
        _ => "tests/cases.json",
    };
    files.insert(path.to_owned(), rest.to_vec());
    let Ok(read) = Bundle::from_files(files) else {
        return;
    };
    let packed = read.pack();
    let again = Bundle::from_packed(&packed).expect("what was packed unpacks");
    assert_eq!(again, read);
    if let Ok(compiled) = Compiled::compile(&read) {
        assert_eq!(compiled.digest(), read.digest());
        drop(policy_engine::run_cases(&compiled, &read));
    }
}

fn shapes() -> &'static [Shapes] {
    static SHAPES: OnceLock<Vec<Shapes>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let of = |tools: &str| {
            let header =
                "name = \"rich\"\nhistory = \"agent\"\n\n[[manifest]]\nfile = \"m.json\"\n";
            let files = BTreeMap::from([
                ("bundle.toml".to_owned(), header.as_bytes().to_vec()),
                ("m.json".to_owned(), tools.as_bytes().to_vec()),
            ]);
            let read = Bundle::from_files(files).expect("sound manifests");
            read.shapes().clone()
        };
        vec![of(TOOLS), of(RICH_TOOLS)]
    })
}

/// Strict JSON has one canonical text, ordinary readers accept what it accepts, and every value it maps to has one encoding.
///
/// # Panics
/// If not.
pub fn target_json(data: &[u8]) {
    let Ok(json) = Json::parse(data, MAX_INPUT_BYTES) else {
        return;
    };
    assert!(serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok());
    let text = json.to_string();
    // The canonical text of escapes can be longer than what was sent, so that it gets another limit.
    let again = Json::parse(text.as_bytes(), 8 * MAX_INPUT_BYTES).expect("canonical text parses");
    assert_eq!(again, json);
    assert_eq!(again.to_string(), text);
    for (_, schema) in shapes().iter().flat_map(Shapes::iter) {
        if let Ok(value) = schema.input.map(&json) {
            assert_eq!(Value::from_bytes(&value.to_bytes()).as_ref(), Ok(&value));
        }
    }
}

/// Stored values decode only from the bytes that encoding gives, and records of a partition are judged without a panic.
///
/// # Panics
/// If not.
pub fn target_history(data: &[u8]) {
    if let Ok(value) = Value::from_bytes(data) {
        assert_eq!(value.to_bytes(), data, "a value has one form");
    }
    // Whatever these keys' records are said to be, saying so must not panic.
    for (tag, length) in [
        (b'h', 0),
        (b'c', 32),
        (b'k', 40),
        (b'v', 48),
        (b'e', 16),
        (b'x', 40),
    ] {
        let key = [vec![tag], vec![0; length]].concat();
        let _: Result<_, _> = check_record(&key, data);
    }
}
