//! What fuzzing begins with: sound inputs of every kind, made from the story.

use std::collections::BTreeMap;

use ledger_core::evidence;
use ledger_core::note::tlog_proof::TlogProof;
use ledger_core::state::Family;
use ledger_proto::v1;
use policy_engine::{TEMPLATE, Value};
use prost::Message;

use super::ledger::told_evidence;
use super::machine::story;
use super::notes::told_checkpoint;
use super::policy::RICH_TOOLS;
use crate::kit::{RULES, TOOLS, bank, story_bundle};

/// The seeds of a target, by its name; none for a name that is not one.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "bundle" => bundles(),
        "command" => commands(),
        "entry" => told(|told| told.appended.bytes.clone()),
        "evidence" => evidence_forms(),
        "history" => histories(),
        "json" => jsons(),
        "machine" => super::stream::seeds(),
        "note" => notes(),
        "peer" => super::peer::seeds(),
        "proof" => proofs(),
        "submission" => told(|told| told.submission.encode_to_vec()),
        "tlog_policy" => trust_policies(),
        _ => Vec::new(),
    }
}

fn told(bytes: impl Fn(&crate::kit::Told) -> Vec<u8>) -> Vec<Vec<u8>> {
    story().told.iter().map(bytes).collect()
}

fn tagged(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

/// Each command alone, and all in batches of six, at once and with time between them.
fn commands() -> Vec<Vec<u8>> {
    let batch = |time_us: u64, submissions: Vec<v1::Submission>| {
        v1::Batch {
            time_us,
            submissions,
            ..v1::Batch::default()
        }
        .encode_to_vec()
    };
    let all: Vec<v1::Submission> = story()
        .told
        .iter()
        .map(|told| told.submission.clone())
        .collect();
    let alone = all.iter().map(|one| batch(1_000, vec![one.clone()]));
    let few = all.chunks(6).map(|few| batch(1_000, few.to_vec()));
    let slow = all.chunks(6).map(|few| batch(3_600_000_000, few.to_vec()));
    alone.chain(few).chain(slow).collect()
}

fn evidence_forms() -> Vec<Vec<u8>> {
    let (_, all) = told_evidence();
    all.iter()
        .flat_map(|one| {
            [
                evidence::encode(one),
                evidence::to_json(one).into_bytes(),
                one.encode_to_vec(),
            ]
        })
        .collect()
}

fn notes() -> Vec<Vec<u8>> {
    let (_, [decision, _]) = told_evidence();
    let checkpoint = told_checkpoint();
    let proofs = decision.entries.iter().map(|proven| {
        let path = proven
            .path
            .iter()
            .filter_map(|hash| ledger_core::hash::Hash::from_slice(hash))
            .collect();
        let proof = TlogProof {
            index: ledger_core::hash::LeafIndex(proven.index),
            path,
            extra: b"extra".to_vec(),
            checkpoint: checkpoint.to_owned(),
        };
        proof.to_string().into_bytes()
    });
    proofs.chain([checkpoint.as_bytes().to_vec()]).collect()
}

fn trust_policies() -> Vec<Vec<u8>> {
    let policy = story().world.trust_policy();
    let (_, words) = policy.split_once(' ').expect("a log line");
    let key = words.split_once('\n').expect("a line").0.to_owned();
    let spaced = format!("# comment\n\n\t{}", policy.replace(' ', "\t "));
    [policy, key, spaced].map(String::into_bytes).to_vec()
}

fn proofs() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..4 {
        for numbers in [
            [0, 6, 0, 2, 0, 0, 0, 0],
            [1, 44, 0, 200, 0, 0, 0, 0],
            [2, 0, 1, 255, 0, 64, 0, 64],
        ] {
            seeds.push(tagged(kind, &numbers));
            seeds.push(tagged(
                kind,
                &[&numbers[..], &[3, 1, 5, 255, 0, 0]].concat(),
            ));
        }
    }
    let head = pairs(Family::Head).into_iter().next().expect("a head").1;
    let head = v1::HeadRecord::decode(head.as_slice()).expect("a record");
    seeds.push(tagged(4, &head.frontier));
    seeds.push(tagged(5, b"tile/0/x001/x234/067.p/5"));
    seeds
}

fn pairs(family: Family) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let prefix = ledger_core::state::Key::family(family).into_bytes();
    story()
        .world
        .state
        .pairs()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn bundles() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        tagged(0, &bank().pack()),
        tagged(0, &story_bundle().pack()),
        tagged(1, RULES.as_bytes()),
        tagged(2, TOOLS.as_bytes()),
        tagged(2, RICH_TOOLS.as_bytes()),
        tagged(4, br#"[{"uid": {"type": "Countersign::Resource", "id": "r"}, "attrs": {"type": "account"}, "parents": []}]"#),
    ];
    seeds.extend(RULES.split("\n\n").map(|rule| tagged(1, rule.as_bytes())));
    seeds.push(tagged(
        1,
        br#"@id("sum") permit (principal, action, resource) when temporal {
  sum_within(30d, Countersign::Action::"bank/pay"::allowed{}, input.amount) + context.input.amount <= 10 };"#,
    ));
    let header = "name = \"x\"\nhistory = \"session\"\n[[manifest]]\nfile = \"manifest.json\"\nserver = \"bank\"\n";
    seeds.push(tagged(3, header.as_bytes()));
    let typed =
        format!("name = \"x\"\nhistory = \"owner\"\nschema = \"manifest.json\"\n{TEMPLATE}");
    seeds.push(tagged(3, typed.as_bytes()));
    seeds.push(tagged(
        5,
        br#"[{"name": "pays", "steps": [{"at": "0s", "request": {"action": "bank/pay", "input": {"to": "a", "amount": 1}}, "expect": "ALLOW"}]}]"#,
    ));
    seeds
}

fn jsons() -> Vec<Vec<u8>> {
    [
        r#"{"to": "alice", "amount": 5}"#,
        r#"{"flag": true, "count": 1e3, "rate": -12.3400, "cents": 0.29, "name": "\u00e9\ud83d\ude00\n", "maybe": null, "tags": ["b", "a", "b"], "inner": {"deep": [9223372036854775807, -9223372036854775808]}, "any": [1.50, {"x": null}]}"#,
        r#"{"doc": "", "ticket": "t"}"#,
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        "1E400",
        "-0.0",
        r#"{"a": 1, "a": 2}"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn histories() -> Vec<Vec<u8>> {
    let fields = [
        (
            "list".to_owned(),
            Value::Set([1, 2].map(Value::Long).into()),
        ),
        ("text".to_owned(), Value::String("é".to_owned())),
        ("yes".to_owned(), Value::Bool(true)),
    ];
    let value = Value::Record(fields.into());
    pairs(Family::Partition)
        .into_values()
        .chain([value.to_bytes()])
        .collect()
}
