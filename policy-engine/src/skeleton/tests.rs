//! Skeletons of manifests with names of every kind: they compile, permit nothing, and their permits are rules once uncommented.

use super::*;
use crate::{Compiled, run_cases};

const TOOLS: &str = r#"{"result": {"tools": [
  {"name": "send-mail", "description": "*/ permit", "inputSchema": {"type": "object", "properties": {
     "to": {"type": "array", "items": {"type": "string"}}, "in": {"type": "string"}, "a \"b\"\n": {"type": "string"},
     "urgent": {"type": "boolean"}, "copies": {"type": "integer"}, "fee": {"type": "number"},
     "sizes": {"type": "array", "items": {"type": "integer"}}, "extra": {}, "place": {"type": "object",
     "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": false}},
     "required": ["to", "in", "a \"b\"\n", "place", "extra", "copies"], "additionalProperties": false}},
  {"name": "send mail", "inputSchema": {"type": "object", "additionalProperties": false}},
  {"name": "read", "inputSchema": {"type": "object", "additionalProperties": false}}
]}}"#;

fn compiled(files: &BTreeMap<String, Vec<u8>>) -> (Bundle, Compiled) {
    let bundle = Bundle::from_files(files.clone()).unwrap();
    let compiled = Compiled::compile(&bundle).unwrap_or_else(|found| panic!("{found:#?}"));
    (bundle, compiled)
}

#[test]
fn it_permits_nothing_and_says_so_in_a_case() {
    let files = skeleton("a \"name\"", Some("mail"), TOOLS).unwrap();
    let (bundle, compiled) = compiled(&files);
    assert_eq!(bundle.name(), "a \"name\"");
    assert_eq!(bundle.shapes().iter().count(), 3);
    assert_eq!(bundle.cases()[0].steps.len(), 3);
    assert_eq!(run_cases(&compiled, &bundle), []);
    assert_eq!(compiled.rules().len(), 0);
}

#[test]
fn its_rules_compile_once_uncommented() {
    let mut files = skeleton("mail", Some("mail"), TOOLS).unwrap();
    let text = String::from_utf8(files[RULES].clone()).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("// ").unwrap_or(line)))
        .collect();
    files.insert(RULES.to_owned(), uncommented.clone().into_bytes());
    let (bundle, compiled) = compiled(&files);
    let ids: Vec<_> = compiled
        .rules()
        .iter()
        .map(|rule| rule.id.0.as_str())
        .collect();
    assert_eq!(
        ids,
        ["mail-read", "mail-send-mail", "mail-send-mail-2"],
        "{uncommented}"
    );
    for bound in [
        "copies <= 0",
        "urgent == false",
        "sizes.isEmpty()",
        "containsAll",
        "lessThanOrEqual",
    ] {
        assert!(uncommented.contains(bound), "{bound} in {uncommented}");
    }
    // Without grants, what has arguments to bound stays denied.
    let failed = run_cases(&compiled, &bundle);
    let allowed: Vec<_> = failed
        .iter()
        .map(|failure| failure.action.as_str())
        .collect();
    assert_eq!(allowed, ["mail/read", "mail/send mail"]);
}

#[test]
fn a_bad_manifest_is_told() {
    let found = skeleton("x", None, "{").unwrap_err();
    assert_eq!(found[0].file, MANIFEST);
    assert_eq!(skeleton("", None, TOOLS).unwrap_err()[0].file, HEADER);
    assert!(skeleton("x", Some("a/b"), TOOLS).is_err());
}
