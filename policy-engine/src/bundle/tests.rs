//! What makes files a bundle, and what each finding says.

use super::*;
use crate::Severity;
use crate::limits::{MAX_ENTITIES, MAX_NAME_BYTES, MAX_PATH_BYTES};
use crate::schema::TEMPLATE;

pub(super) const HEADER_TEXT: &str =
    "name = \"payments\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\n";

pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn files(files: &[(&str, &str)]) -> Files {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
        .collect()
}

/// A small bundle with one file of each kind.
pub(super) fn sample() -> Files {
    files(&[
        ("bundle.toml", HEADER_TEXT),
        ("schema.cedarschema", TEMPLATE),
        (
            "rules/a.cedar",
            "@id(\"all\") permit(principal, action, resource);",
        ),
        ("rules/team/b.dw", "// nothing yet"),
        (
            "entities.json",
            r#"[{"uid": {"type": "Countersign::Resource", "id": "vault"}, "attrs": {"type": "bucket"}, "parents": [], "tags": {"zone": "eu"}}]"#,
        ),
        ("tests/a.json", r#"{"cases": []}"#),
    ])
}

pub(super) fn changed(path: &str, text: &str) -> Files {
    let mut files = sample();
    files.insert(path.to_owned(), text.as_bytes().to_vec());
    files
}

fn refusal(files: Files) -> Diagnostic {
    let findings = Bundle::from_files(files).unwrap_err();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(!findings[0].mend.is_empty());
    findings[0].clone()
}

#[test]
fn a_bundle_is_read_with_all_its_parts() {
    let bundle = Bundle::from_files(sample()).unwrap();
    assert_eq!(
        (bundle.name(), bundle.history()),
        ("payments", HistoryScope::Agent)
    );
    let rules: Vec<_> = bundle.rules().map(|file| file.path.as_str()).collect();
    assert_eq!(rules, ["rules/a.cedar", "rules/team/b.dw"]);
    assert_eq!(bundle.files().len(), 6);
    assert_eq!(
        bundle.file("rules/team/b.dw").unwrap().text,
        "// nothing yet"
    );
    assert_eq!(bundle.file("rules/team"), None);
    assert_eq!(bundle.schema().text, TEMPLATE);
    assert_eq!((bundle.warnings(), bundle.cases()), (&[][..], &[][..]));
    // The vault, and the action of the template.
    assert_eq!(bundle.entities().unwrap().iter().count(), 2);

    let mut bare = sample();
    bare.retain(|path, _| path == "bundle.toml" || path == "schema.cedarschema");
    let bare = Bundle::from_files(bare).unwrap();
    assert_eq!(bare.entities().unwrap().iter().count(), 1);
}

#[test]
fn a_bundle_with_manifests_generates_its_schema() {
    let mut bundle = files(&[
        (
            "bundle.toml",
            "name = \"n\"\nhistory = \"namespace\"\n[[manifest]]\nserver = \"bank\"\nfile = \"m/bank.json\"\n[[manifest]]\nfile = \"local.json\"\n",
        ),
        (
            "m/bank.json",
            r#"[{"name": "pay", "inputSchema": {"type": "object", "properties": {"x": {}}}}]"#,
        ),
        (
            "local.json",
            r#"{"tools": [{"name": "get-weather", "inputSchema": {"type": "object"}}]}"#,
        ),
    ]);
    let read = Bundle::from_files(bundle.clone()).unwrap();
    let actions: Vec<_> = read.shapes().iter().map(|(id, _)| id).collect();
    assert_eq!(actions, ["bank/pay", "get-weather"]);
    assert_eq!(read.schema().path, "m/bank.json");
    assert_eq!(read.warnings().len(), 1);
    assert_eq!(read.warnings()[0].severity, Severity::Warning);

    bundle.insert("local.json".to_owned(), b"{\n\"a\": 1, \"a\": 2}".to_vec());
    let finding = refusal(bundle.clone());
    assert_eq!(
        (finding.file.as_str(), finding.line),
        ("local.json", Some(1))
    );
    bundle.remove("local.json");
    assert_eq!(refusal(bundle).file, "local.json");
}

#[test]
fn the_header_is_strict() {
    for (text, line) in [
        ("", Some(1)),
        ("name = \"n\"\nhistory = \"agent\"\n", None),
        (
            "name = \"n\"\nhistory = \"everyone\"\nschema = \"schema.cedarschema\"",
            Some(2),
        ),
        (
            "name = \"n\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\nextra = 1",
            Some(4),
        ),
        (
            "name = \"\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"",
            None,
        ),
        (
            "name = \"a\\u0007\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"",
            None,
        ),
        (
            "name = 1.5\nhistory = \"agent\"\nschema = \"schema.cedarschema\"",
            Some(1),
        ),
        (
            "name = \"n\"\nname = \"n\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"",
            Some(2),
        ),
        (
            "name = \"n\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\n[[manifest]]\nfile = \"schema.cedarschema\"",
            None,
        ),
        (
            "name = \"n\"\nhistory = \"agent\"\n[[manifest]]\nfile = \"schema.cedarschema\"\nport = 1",
            Some(5),
        ),
    ] {
        let finding = refusal(changed("bundle.toml", text));
        assert_eq!(
            (finding.file.as_str(), finding.line),
            ("bundle.toml", line),
            "{text}: {finding}"
        );
    }
    let named = |name: &str| changed("bundle.toml", &HEADER_TEXT.replace("payments", name));
    assert!(Bundle::from_files(named(&"x".repeat(MAX_NAME_BYTES))).is_ok());
    refusal(named(&"x".repeat(MAX_NAME_BYTES + 1)));
    for hostile in ["[", "{x = ", "a.", "[[a.", "[{a=["] {
        for prefix in ["", "x = "] {
            let text = format!("{HEADER_TEXT}{prefix}{}", hostile.repeat(10_000));
            assert_eq!(refusal(changed("bundle.toml", &text)).file, "bundle.toml");
        }
    }
    let mut headless = sample();
    headless.remove("bundle.toml");
    assert_eq!(refusal(headless).file, "bundle.toml");
    assert_eq!(refusal(Files::new()).file, "bundle.toml");
}

#[test]
fn files_that_nothing_reads_are_refused() {
    for path in [
        "README.md",
        "rules/a.txt",
        "rules.cedar",
        "tests/a.toml",
        "other.json",
        "schema2.cedarschema",
        "rules/a.CEDAR",
    ] {
        assert_eq!(refusal(changed(path, "")).file, path);
    }
}

#[test]
fn paths_are_plain_or_refused() {
    let longest = format!("rules/{}.cedar", "x".repeat(MAX_PATH_BYTES - 12));
    assert!(Bundle::from_files(changed(&longest, "")).is_ok());
    let longer = format!("rules/{}.cedar", "x".repeat(MAX_PATH_BYTES - 11));
    for path in [
        "",
        "/",
        "/rules/a.cedar",
        "rules//a.cedar",
        "rules/../a.cedar",
        "../a.cedar",
        "rules/./a.cedar",
        "rules/",
        "rules/.a.cedar",
        "rules\\a.cedar",
        "rules/a b.cedar",
        "rules/é.cedar",
        "rules/a\0.cedar",
        "C:/a.cedar",
        "rules/a.cedar/",
        &longer,
    ] {
        let finding = refusal(changed(path, ""));
        assert!(finding.message.contains("path"), "{path}: {finding}");
    }
}

#[test]
fn files_are_text_and_bounded_in_number_and_size() {
    let mut files = sample();
    files.insert("rules/bad.cedar".to_owned(), vec![0xff]);
    assert_eq!(refusal(files).message, "the file is not UTF-8");

    let mut files = sample();
    for n in files.len()..MAX_BUNDLE_FILES {
        files.insert(format!("rules/{n}.cedar"), Vec::new());
    }
    let full = Bundle::from_files(files.clone()).unwrap();
    assert_eq!(full.files().len(), MAX_BUNDLE_FILES);
    files.insert("rules/one-more.cedar".to_owned(), Vec::new());
    assert!(refusal(files).message.contains("more than"));

    let used = Bundle::from_files(changed("rules/big.cedar", ""))
        .unwrap()
        .pack()
        .len();
    let largest = changed("rules/big.cedar", &" ".repeat(MAX_BUNDLE_BYTES - used));
    let packed = Bundle::from_files(largest).unwrap().pack();
    assert_eq!(packed.len(), MAX_BUNDLE_BYTES);
    assert!(Bundle::from_packed(&packed).is_ok());
    let larger = changed("rules/big.cedar", &" ".repeat(MAX_BUNDLE_BYTES - used + 1));
    assert!(refusal(larger).message.contains("larger"));
    assert!(Bundle::from_packed(&vec![0; MAX_BUNDLE_BYTES + 1]).is_err());
}

#[test]
fn entities_speak_of_resources_and_groups_only() {
    let entity = |uid: &str, rest: &str| {
        format!(r#"[{{"uid": {uid}, "attrs": {{{rest}}}, "parents": []}}]"#)
    };
    let group = entity(r#"{"type": "Countersign::Group", "id": "g"}"#, "");
    assert!(Bundle::from_files(changed("entities.json", &group)).is_ok());
    let owner = r#""owner": {"__entity": {"type": "Countersign::Operator", "id": "o"}}"#;
    for (text, part) in [
        (
            entity(r#"{"type": "Countersign::Agent", "id": "a"}"#, owner),
            "not the bundle's",
        ),
        (
            entity(r#"{"type": "Countersign::Operator", "id": "a"}"#, ""),
            "not the bundle's",
        ),
        (
            entity(r#"{"type": "Countersign::Gateway", "id": "a"}"#, ""),
            "not the bundle's",
        ),
        (
            entity(r#"{"type": "Countersign::Grants", "id": "a"}"#, ""),
            "not the bundle's",
        ),
        (
            entity(r#"{"type": "Countersign::Action", "id": "new"}"#, ""),
            "",
        ),
        (
            entity(r#"{"type": "Countersign::Nothing", "id": "a"}"#, ""),
            "",
        ),
        (
            entity(r#"{"type": "Countersign::Resource", "id": "a"}"#, ""),
            "",
        ),
        (
            entity(
                r#"{"type": "Countersign::Resource", "id": "a"}"#,
                r#""type": 1"#,
            ),
            "",
        ),
        (
            entity(
                r#"{"type": "Countersign::Resource", "id": "a"}"#,
                r#""type": "t", "type": "u""#,
            ),
            "same name",
        ),
        ("[".repeat(10_000), "malformed"),
        (
            format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
            "deeper",
        ),
        ("{}".to_owned(), ""),
    ] {
        let finding = refusal(changed("entities.json", &text));
        assert_eq!(finding.file, "entities.json");
        assert!(finding.message.contains(part), "{text:.200}: {finding}");
    }
}

#[test]
fn all_findings_are_reported_at_once() {
    let mut files = changed("entities.json", "{");
    files.insert("README.md".to_owned(), Vec::new());
    files.insert("tests/a.json".to_owned(), b"[]".to_vec());
    let found = Bundle::from_files(files).unwrap_err();
    let mut about: Vec<_> = found.iter().map(|finding| finding.file.as_str()).collect();
    about.sort_unstable();
    assert_eq!(about, ["README.md", "entities.json", "tests/a.json"]);
}

#[test]
fn entities_are_bounded_in_number_and_ancestry() {
    let uid = |n: usize| format!(r#"{{"type": "Countersign::Resource", "id": "{n}"}}"#);
    let entities = |count: usize, parents: &dyn Fn(usize) -> Vec<usize>| {
        let entities: Vec<String> = (0..count)
            .map(|n| {
                let parents: Vec<String> = parents(n).into_iter().map(uid).collect();
                let (uid, parents) = (uid(n), parents.join(","));
                format!(r#"{{"uid": {uid}, "attrs": {{"type": "t"}}, "parents": [{parents}]}}"#)
            })
            .collect();
        changed("entities.json", &format!("[{}]", entities.join(",")))
    };
    let flat = |n: usize| if n == 0 { Vec::new() } else { vec![0] };
    assert!(Bundle::from_files(entities(MAX_ENTITIES, &flat)).is_ok());
    assert!(
        refusal(entities(MAX_ENTITIES + 1, &flat))
            .message
            .contains("more than")
    );
    // A chain of n entities has n (n - 1) / 2 ancestors.
    let chain = |n: usize| n.checked_sub(1).into_iter().collect();
    assert!(Bundle::from_files(entities(447, &chain)).is_ok());
    assert!(refusal(entities(448, &chain)).message.contains("ancestors"));
    assert!(
        refusal(entities(MAX_ENTITIES, &chain))
            .message
            .contains("ancestors")
    );
    let cycle = |n: usize| vec![(n + 1) % 3];
    refusal(entities(3, &cycle));
    for malformed in [
        r#"[{"uid": "Countersign::Group::\"g\"", "attrs": {}, "parents": []}]"#,
        r#"[{"uid": {"type": "Countersign::Group", "id": "g"}, "attrs": {}}]"#,
        "[7]",
    ] {
        assert!(
            refusal(changed("entities.json", malformed))
                .message
                .contains("format")
        );
    }
}
