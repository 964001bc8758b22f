//! What authors and agents get wrong, on purpose or not: each is told clearly at check, refused at publish, or denied with an
//! entry. Never a panic.

use std::collections::BTreeMap;

use countersign_tests::kit::{Ask, World, bundle, decision_of};
use ledger_core::id::Identity;
use ledger_proto::v1::{self, DecisionReason as Reason, Result as R, command::Body};
use policy_engine::{Bundle, BundleDigest, Compiled};

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";

/// A rule about payments.
fn rule(id: &str, conditions: &str) -> String {
    format!(
        "@id(\"{id}\") permit (principal, action == Countersign::Action::\"bank/pay\", resource) {conditions};"
    )
}

/// What is changed in a sound bundle: a file, and its text.
type Change = (&'static str, String);

/// A mistake, what is told of it, and the change that makes it.
fn mistakes() -> Vec<(&'static str, &'static str, Change)> {
    let rules = |text: String| ("rules/bank.dw", text);
    let entities = |text: &str| ("entities.json", text.to_owned());
    let chain = |operator: &str, count: usize, term: &str| {
        let terms = vec![term; count];
        rule("deep", &format!("when {{ {} }}", terms.join(operator)))
    };
    vec![
        (
            "two rules of one id",
            "its @id is also that of the rule at rules/bank.dw:1",
            rules(format!("{ALL}\n{ALL}")),
        ),
        (
            "an id of 10 KB",
            "longer than 128 bytes",
            rules(rule(&"i".repeat(10_240), "")),
        ),
        (
            "a thousand parentheses",
            "nest deeper than 32",
            rules(rule(
                "deep",
                &format!("when {{ {}true{} }}", "(".repeat(1_000), ")".repeat(1_000)),
            )),
        ),
        (
            "five thousand conjunctions",
            "more than 1000 operators",
            rules(chain(" && ", 5_001, "true")),
        ),
        (
            "a chain that no stack is sure to hold",
            "nest deeper than 200",
            rules(chain(" && ", 400, "principal == principal")),
        ),
        (
            "entities in a circle",
            "cycle",
            entities(
                r#"[{"uid": {"type": "Countersign::Group", "id": "a"}, "attrs": {}, "parents": [{"type": "Countersign::Group", "id": "b"}]},
                    {"uid": {"type": "Countersign::Group", "id": "b"}, "attrs": {}, "parents": [{"type": "Countersign::Group", "id": "a"}]}]"#,
            ),
        ),
        (
            "an address that is none",
            "failed to parse as IP address",
            rules(rule("ip", "when { ip(\"1.2.3.4.5\").isLoopback() }")),
        ),
        (
            "a decimal that is none",
            "failed to parse as a decimal value",
            rules(rule("dec", "when { decimal(\"1.23456\") == decimal(\"1.0\") }")),
        ),
        (
            "an action that the schema does not have",
            "bank/steal",
            rules(
                "@id(\"a\") permit (principal, action == Countersign::Action::\"bank/steal\", resource);"
                    .to_owned(),
            ),
        ),
        (
            "a past action that the schema does not have",
            "bank/steal",
            rules(rule(
                "a",
                "when temporal { formerly within 1h Countersign::Action::\"bank/steal\"::allowed{} }",
            )),
        ),
        (
            "a schema without the template",
            "differs from the schema template",
            (
                "bundle.toml",
                "name = \"bank\"\nhistory = \"agent\"\nschema = \"s.cedarschema\"\n".to_owned(),
            ),
        ),
        (
            "a window over 30 days",
            "30d",
            rules(rule(
                "long",
                "when temporal { formerly within 31d Countersign::Action::\"bank/pay\"::allowed{} }",
            )),
        ),
        (
            "windows inside windows over 30 days",
            "further than 30 days",
            rules(rule(
                "long",
                "when temporal { formerly within 20d (Countersign::Action::\"bank/pay\"::allowed{} && formerly within 20d Countersign::Action::\"bank/read\"::allowed{}) }",
            )),
        ),
        (
            "a provider",
            "calls a provider",
            rules(rule(
                "p",
                "when guardrails { Guard::Check(context.input.to).safe() }",
            )),
        ),
        (
            "a word that looks like `permit`",
            "rules/bank.dw:1",
            rules("@id(\"a\") p\u{435}rmit (principal, action, resource);".to_owned()),
        ),
        (
            "an argument that looks like `amount`",
            "am\u{43e}unt",
            rules(rule("a", "when { context.input[\"am\u{43e}unt\"] > 1 }")),
        ),
    ]
}

/// The files of a sound bundle after a change, and with the schema file that the header names, if it names one.
fn files((path, text): &Change) -> BTreeMap<String, Vec<u8>> {
    let sound = bundle("agent", ALL);
    let files = sound.files().iter();
    let mut files: BTreeMap<String, Vec<u8>> = files
        .map(|file| (file.path.clone(), file.text.clone().into_bytes()))
        .collect();
    if text.contains("s.cedarschema") {
        files.remove("manifest.json");
        let schema = "namespace Countersign { entity Agent; entity Resource; action \"pay\" appliesTo { principal: [Agent], resource: [Resource] }; }";
        files.insert("s.cedarschema".to_owned(), schema.as_bytes().to_vec());
    }
    files.insert((*path).to_owned(), text.clone().into_bytes());
    files
}

/// The packed form, whether or not the files are a bundle.
fn packed(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut bytes = length(files.len()).to_vec();
    for (path, text) in files {
        for part in [path.as_bytes(), text] {
            bytes.extend_from_slice(&length(part.len()));
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

#[test]
fn mistakes_of_authors_are_told_at_check_and_refused_at_publish() {
    assert_eq!(
        packed(&files(&("rules/bank.dw", ALL.to_owned()))),
        bundle("agent", ALL).pack()
    );
    let mut world = World::new();
    for (mistake, told, change) in mistakes() {
        let files = files(&change);
        let findings = Bundle::from_files(files.clone())
            .and_then(|bundle| Compiled::compile(&bundle))
            .expect_err(mistake);
        let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(
            text.iter().any(|finding| finding.contains(told)),
            "{mistake}: {text:#?}"
        );
        assert!(
            text.iter().all(|finding| finding.len() < 2_000),
            "{mistake}"
        );
        let bytes = packed(&files);
        assert!(bytes.len() <= 48 * 1024, "{mistake} fits into one chunk");
        let publish = Body::PublishBundle(v1::PublishBundle {
            namespace: "team".to_owned(),
            digest: BundleDigest::of(&bytes).0.to_vec(),
            chunk_index: 0,
            chunk_count: 1,
            chunk: bytes,
        });
        let root = Identity::Operator("root".to_owned());
        assert_eq!(
            world.result(Ask::new(root, publish)),
            R::BundleInvalid,
            "{mistake}"
        );
    }
}

/// What requests get wrong, and the reason that their entry gives.
fn requests() -> Vec<(&'static str, &'static str, String, Reason)> {
    let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let pay = |more: &str| format!("{{\"to\": \"a\", \"amount\": 1{more}}}");
    vec![
        ("sound", "bank/pay", pay(""), Reason::AllowedByPolicy),
        (
            "an extra argument",
            "bank/pay",
            pay(", \"x\": 1"),
            Reason::SchemaMismatch,
        ),
        (
            "a missing argument",
            "bank/pay",
            "{\"to\": \"a\"}".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "an argument of another type",
            "bank/pay",
            "{\"to\": 1, \"amount\": 1}".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "a number with a fraction",
            "bank/pay",
            "{\"to\": \"a\", \"amount\": 1.5}".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "a set of 100,000 where a text belongs",
            "bank/read",
            format!("{{\"doc\": [{}]}}", vec!["1"; 100_000].join(",")),
            Reason::SchemaMismatch,
        ),
        (
            "more bytes than an input may have",
            "bank/read",
            format!("{{\"doc\": [{}]}}", many.join(",")),
            Reason::InputTooLarge,
        ),
        (
            "nesting deeper than any stack",
            "bank/read",
            format!(
                "{{\"doc\": {}{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
            Reason::SchemaMismatch,
        ),
        (
            "no JSON",
            "bank/read",
            "{\"doc\": \"a\"".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "no object",
            "bank/read",
            "[]".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "a name that is there twice",
            "bank/read",
            "{\"doc\": \"a\", \"\\u0064oc\": \"b\"}".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "an action that looks like another",
            "bank/p\u{430}y",
            pay(""),
            Reason::UnknownAction,
        ),
        (
            "an argument whose name looks like another",
            "bank/pay",
            "{\"t\u{43e}\": \"a\", \"amount\": 1}".to_owned(),
            Reason::SchemaMismatch,
        ),
        (
            "a value that looks like a forbidden one",
            "bank/pay",
            "{\"to\": \"m\u{430}llory\", \"amount\": 1}".to_owned(),
            Reason::AllowedByPolicy,
        ),
        (
            "the forbidden one",
            "bank/pay",
            "{\"to\": \"mallory\", \"amount\": 1}".to_owned(),
            Reason::ForbiddenByPolicy,
        ),
        (
            "the same letters composed",
            "bank/pay",
            "{\"to\": \"zo\u{eb}\", \"amount\": 1}".to_owned(),
            Reason::ForbiddenByPolicy,
        ),
        (
            "and taken apart",
            "bank/pay",
            "{\"to\": \"zoe\u{308}\", \"amount\": 1}".to_owned(),
            Reason::AllowedByPolicy,
        ),
        (
            "arguments on which a forbid errs",
            "bank/pay",
            "{\"to\": \"a\", \"amount\": 9223372036854775807}".to_owned(),
            Reason::EvaluationError,
        ),
    ]
}

#[test]
fn mistakes_of_requests_are_entries_with_their_reason() {
    let rules = [
        rule("pay", ""),
        "@id(\"read\") permit (principal, action == Countersign::Action::\"bank/read\", resource);".to_owned(),
        "@id(\"never\") forbid (principal, action == Countersign::Action::\"bank/pay\", resource)
           when { [\"mallory\", \"zo\u{eb}\"].contains(context.input.to) || context.input.amount + 1 < 0 };"
            .to_owned(),
    ];
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bundle("agent", &rules.concat()));
    let session = world.session("bot");
    for (mistake, action, input, expected) in requests() {
        let decided = world.authorize("bot", session, action, &input);
        assert_eq!(decision_of(&decided.entry).reason(), expected, "{mistake}");
    }
}

#[test]
fn a_rule_that_always_errs_permits_nothing_and_forbids_everything() {
    let errs = "when { context.input.amount * 9223372036854775807 * 3 > 0 }";
    let pay = r#"{"to": "a", "amount": 2}"#;
    for (rules, expected) in [
        (rule("errs", errs), Reason::NoMatchingPermit),
        (
            format!("{ALL}{}", rule("errs", errs).replace("permit", "forbid")),
            Reason::EvaluationError,
        ),
        (
            format!("{ALL}{}", rule("errs", errs)),
            Reason::AllowedByPolicy,
        ),
    ] {
        let mut world = World::new();
        world.agent("bot");
        world.policy("team", &bundle("agent", &rules));
        let session = world.session("bot");
        let decided = world.authorize("bot", session, "bank/pay", pay);
        assert_eq!(decision_of(&decided.entry).reason(), expected, "{rules}");
    }
}
