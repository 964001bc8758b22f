use proptest::prelude::*;

use super::*;
use crate::Severity;
use crate::limits::{CHUNK_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES};
use crate::schema::TEMPLATE;

const HEADER_TEXT: &str =
    "name = \"payments\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\n";

type Files = BTreeMap<String, Vec<u8>>;

fn files(files: &[(&str, &str)]) -> Files {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
        .collect()
}

/// A small bundle with one file of each kind.
fn sample() -> Files {
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

fn changed(path: &str, text: &str) -> Files {
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

/// Bundles are named by these digests for ever; this test must not change without a new format.
#[test]
fn the_packed_form_and_its_digest_are_pinned() {
    let bundle = Bundle::from_files(files(&[
        ("bundle.toml", HEADER_TEXT),
        ("schema.cedarschema", TEMPLATE),
    ]))
    .unwrap();
    let packed = bundle.pack();
    let mut expected = vec![0, 0, 0, 2];
    for (path, text) in [
        ("bundle.toml", HEADER_TEXT),
        ("schema.cedarschema", TEMPLATE),
    ] {
        for part in [path, text] {
            expected.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            expected.extend(part.as_bytes());
        }
    }
    assert_eq!(packed, expected);
    let mut named = b"countersign-bundle-v1\0".to_vec();
    named.extend(&packed);
    assert_eq!(bundle.digest().0, *blake3::hash(&named).as_bytes());
    let pinned = "6827bb5f4dd49227bce7cf204def232bdea6a8c9a475db18b51b0c4e058940ed";
    assert_eq!(bundle.digest().to_string(), pinned);
}

#[test]
fn chunks_make_the_bundle_again() {
    let mut files = changed("rules/big.cedar", &"// x\n".repeat(CHUNK_BYTES));
    files.insert("rules/b.cedar".to_owned(), b"// b".to_vec());
    let bundle = Bundle::from_files(files).unwrap();
    let chunks = bundle.chunks();
    assert_eq!(chunks.len(), bundle.pack().len().div_ceil(CHUNK_BYTES));
    assert!(
        chunks
            .iter()
            .all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES)
    );
    let again = Bundle::from_chunks(chunks.iter().map(Vec::as_slice)).unwrap();
    assert_eq!((again.digest(), &again), (bundle.digest(), &bundle));
    assert!(Bundle::from_chunks(chunks.iter().skip(1).map(Vec::as_slice)).is_err());
    let endless = std::iter::repeat(chunks[0].as_slice());
    assert!(Bundle::from_chunks(endless).is_err());
}

#[test]
fn hostile_packed_bytes_are_refused() {
    let packed = Bundle::from_files(sample()).unwrap().pack();
    let file = |path: &str, text: &str| {
        let mut bytes = Vec::new();
        for part in [path, text] {
            bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    };
    let pack =
        |count: u32, files: &[Vec<u8>]| [count.to_be_bytes().to_vec(), files.concat()].concat();
    for (bytes, part) in [
        (Vec::new(), "cut short"),
        (vec![0xff; 4], "too many files"),
        (pack(1, &[]), "cut short"),
        (pack(1, &[vec![0xff, 0xff, 0xff, 0xff, 0]]), "cut short"),
        (pack(2, &[file("b", ""), file("a", "")]), "out of order"),
        (pack(2, &[file("a", ""), file("a", "")]), "out of order"),
        (pack(1, &[file("../a", "")]), "invalid path"),
        (pack(1, &[file("/a", "")]), "invalid path"),
        (pack(1, &[file("", "")]), "invalid path"),
        (pack(1, &[file("bundle.toml", ""), vec![0]]), "follow"),
        ([packed.clone(), vec![0]].concat(), "follow"),
        (packed[..packed.len() - 1].to_vec(), "cut short"),
    ] {
        let findings = Bundle::from_packed(&bytes).unwrap_err();
        assert!(
            findings[0].message.contains(part),
            "{bytes:?}: {findings:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packing_is_canonical(
        rules in proptest::collection::btree_map("rules/[a-z]{1,3}(/[a-z]{1,2})?\\.cedar", ".{0,20}", 0..5),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut files = sample();
        files.extend(rules.into_iter().map(|(path, text)| (path, text.into_bytes())));
        let bundle = Bundle::from_files(files).unwrap();
        let mut packed = bundle.pack();
        let again = Bundle::from_packed(&packed).unwrap();
        prop_assert_eq!(&again, &bundle);
        prop_assert_eq!(again.digest(), BundleDigest::of(&packed));

        let at = at.index(packed.len());
        packed[at] = byte;
        if let Ok(other) = Bundle::from_packed(&packed) {
            prop_assert_eq!(other.pack(), packed);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0_u8..4, 0..100)) {
        let _ = Bundle::from_packed(&bytes);
    }
}
