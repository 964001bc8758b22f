//! Bytes that must not change by accident: one of everything that is signed, hashed, stored or carried.
//!
//! The files in `tests/golden` were written once and are compared byte for byte. A difference is never mended by writing them
//! again without thinking: each group says what its change means to those who hold the old bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use countersign_tests::kit::{
    Story, kind_of, node_card, story_bundle, story_context, tell_story, trust_policy,
};
use ledger_core::evidence::{self, Sources};
use ledger_core::hash::TreeHash;
use ledger_core::state::{Family, Key, state_digest};
use ledger_proto::{DESCRIPTORS, v1};
use prost::Message;
use prost_types::FileDescriptorSet;

/// The variable that has the files written again. The test that wrote fails all the same, so that no pipeline ever passes by
/// writing its own expectations.
const BLESS: &str = "COUNTERSIGN_BLESS_GOLDEN";

const COMMANDS_MEAN: &str = "clients sign these bytes: with others, signatures made in the field would not verify. Add a \
    field with a new number instead; a change that cannot be avoided needs a new cluster version and, if old commands mean \
    something else now, a new ledger.";
const ENTRIES_MEAN: &str = "these bytes are leaves: replicas of two builds would compute two roots from one log. A wanted \
    change needs the next ENGINE_VERSION, with the old rules kept for the entries before its activation; entries that exist \
    can never change.";
const STATE_MEANS: &str = "replicas compare digests of their state and snapshots carry it: a wanted change needs the next \
    ENGINE_VERSION and a migration at its activation.";
const CARRIED_MEANS: &str = "others hold such bytes and their tools read them: a wanted change needs another version in \
    their header, and the old form read for ever.";

type Golden = BTreeMap<String, Vec<u8>>;

fn story() -> &'static Story {
    static STORY: OnceLock<Story> = OnceLock::new();
    STORY.get_or_init(|| tell_story(TreeHash::Sha256))
}

/// Compares with the file, or writes it and fails.
#[track_caller]
fn compare(group: &str, meaning: &str, actual: &Golden) {
    let path = file_of(group);
    if std::env::var_os(BLESS).is_some() {
        let text: String = actual
            .iter()
            .map(|(name, bytes)| format!("{name} = {}\n", hex::encode(bytes)))
            .collect();
        fs::write(&path, text).expect("the golden file can be written");
        panic!("{group}: written again; unset {BLESS}, read the difference, and run once more");
    }
    let expected = read(&path);
    let findings = differences(group, &expected, actual);
    assert!(
        findings.is_empty(),
        "\n{}\nWhat this means: {meaning}\nIf the change is wanted and its price is paid, run this test with {BLESS}=1: it \
         writes {} and fails; then run it without.\n",
        findings.join("\n"),
        path.display()
    );
}

fn file_of(group: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("{group}.txt"))
}

fn read(path: &Path) -> Golden {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (name, bytes) = line.split_once(" = ").expect("`name = hex`");
            (name.to_owned(), hex::decode(bytes).expect("hex"))
        })
        .collect()
}

/// One sentence per value that differs, is missing, or is new.
fn differences(group: &str, expected: &Golden, actual: &Golden) -> Vec<String> {
    let names: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (expected.get(name), actual.get(name)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => {
                let at = old.iter().zip(new).take_while(|(a, b)| a == b).count();
                Some(format!(
                    "{group}/{name}: changed from byte {at} on ({} bytes, were {})",
                    new.len(),
                    old.len()
                ))
            }
            (None, _) => Some(format!("{group}/{name}: has no golden bytes")),
            (Some(_), None) => Some(format!("{group}/{name}: is no longer made")),
        })
        .collect()
}

/// The fields of the oneof `body` of a message.
fn kinds_of(message: &str) -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors decode");
    let found = files
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|found| found.name() == message)
        .expect("the message exists");
    found
        .field
        .iter()
        .filter(|field| field.oneof_index.is_some() && !field.proto3_optional())
        .map(|field| field.name().to_owned())
        .collect()
}

fn command_of(submission: &v1::Submission) -> Vec<u8> {
    let signed = submission.signed.as_ref().expect("signed");
    signed.command.clone()
}

#[test]
fn commands() {
    let mut golden = Golden::new();
    let mut kinds = BTreeSet::new();
    for told in &story().told {
        let bytes = command_of(&told.submission);
        let command = v1::Command::decode(bytes.as_slice()).expect("decodes");
        kinds.insert(kind_of(&command.body.expect("a body")).to_owned());
        golden.insert(told.name.to_owned(), bytes);
    }
    assert_eq!(
        kinds,
        kinds_of("Command"),
        "a kind of command that the story does not tell has no golden bytes"
    );
    compare("commands", COMMANDS_MEAN, &golden);
}

#[test]
fn submissions_and_batches() {
    let told = |name: &str| {
        let found = story().told.iter().find(|told| told.name == name);
        found.expect("told").submission.clone()
    };
    let batch = v1::Batch {
        time_us: story().world.now_us,
        prior_size: 7,
        prior_root: vec![8; 32],
        submissions: vec![told("authorize"), told("record")],
    };
    let golden = Golden::from([
        ("submission".to_owned(), told("authorize").encode_to_vec()),
        ("batch".to_owned(), batch.encode_to_vec()),
        ("context".to_owned(), story_context().encode_to_vec()),
    ]);
    compare("submissions", COMMANDS_MEAN, &golden);
}

#[test]
fn entries() {
    let story = story();
    let genesis =
        ledger_core::ledger::entry_bytes(&story.world.state, ledger_core::hash::LeafIndex(0));
    let genesis = genesis.expect("sound").expect("leaf 0");
    let mut golden = Golden::from([("genesis".to_owned(), genesis)]);
    for told in &story.told {
        golden.insert(told.name.to_owned(), told.appended.bytes.clone());
    }
    golden.insert("z_root".to_owned(), story.world.root().as_bytes().to_vec());
    let blake3 = tell_story(TreeHash::Blake3);
    golden.insert(
        "z_root_blake3".to_owned(),
        blake3.world.root().as_bytes().to_vec(),
    );

    let kinds: BTreeSet<String> = golden
        .iter()
        .filter(|(name, _)| !name.starts_with("z_"))
        .map(|(_, bytes)| {
            let entry = v1::Entry::decode(bytes.as_slice()).expect("decodes");
            let kind = match entry.body.expect("a body") {
                v1::entry::Body::Genesis(_) => "genesis",
                v1::entry::Body::Decision(_) => "decision",
                v1::entry::Body::Outcome(_) => "outcome",
                v1::entry::Body::Redemption(_) => "redemption",
                v1::entry::Body::SessionOpening(_) => "session_opening",
                v1::entry::Body::SessionEnd(_) => "session_end",
                v1::entry::Body::Governance(_) => "governance",
            };
            kind.to_owned()
        })
        .collect();
    assert_eq!(
        kinds,
        kinds_of("Entry"),
        "a kind of entry has no golden bytes"
    );
    compare("entries", ENTRIES_MEAN, &golden);
}

#[test]
fn state() {
    let story = story();
    let mut golden = Golden::new();
    for family in Family::ALL {
        let prefix = Key::family(family).into_bytes();
        let mut pairs = story.world.state.pairs();
        let (key, value) = pairs
            .find(|(key, _)| key.starts_with(&prefix))
            .unwrap_or_else(|| panic!("the story leaves nothing of the family {family:?}"));
        let name = format!("{:02x}_{family:?}", prefix[0]);
        golden.insert(format!("{name}_key"), key.to_vec());
        golden.insert(format!("{name}_value"), value.to_vec());
    }
    let digest = state_digest(&story.world.state).expect("sound");
    golden.insert("z_digest".to_owned(), digest.as_bytes().to_vec());
    compare("state", STATE_MEANS, &golden);
}

#[test]
fn what_is_carried() {
    let story = story();
    let checkpoint = story.world.checkpoint(&[1, 2]);
    let sources = || Sources {
        state: &story.world.state,
        checkpoint: &checkpoint,
        trust_checkpoints: &[],
        compartments: &[v1::CompartmentKind::Resource],
    };
    let leaves = evidence::session_leaves(&story.world.state, story.sealed_session).expect("sound");
    let session = evidence::session(sources(), story.sealed_session, &leaves).expect("evidence");
    let decision = evidence::decision(sources(), story.allowed).expect("evidence");
    let receipt = evidence::receipt(
        &story.world.state,
        story.allowed,
        &checkpoint,
        v1::ReceiptLevel::Cosigned,
    )
    .expect("a receipt");
    let digest = |bytes: &[u8]| blake3::hash(bytes).as_bytes().to_vec();
    let text = |text: String| text.into_bytes();
    let origin = &story.world.origin;
    let golden = Golden::from(
        [
            ("checkpoint", text(checkpoint.clone())),
            ("trust_policy", text(trust_policy(origin, &[1, 2, 3]))),
            ("node_card", node_card(origin, 1).encode_to_vec()),
            ("evidence_session", evidence::encode(&session)),
            ("evidence_session_json", text(evidence::to_json(&session))),
            (
                "evidence_decision_blake3",
                digest(&evidence::encode(&decision)),
            ),
            ("receipt", receipt.encode_to_vec()),
            ("bundle", story_bundle().pack()),
            ("bundle_digest", story_bundle().digest().0.to_vec()),
        ]
        .map(|(name, bytes)| (name.to_owned(), bytes)),
    );
    compare("carried", CARRIED_MEANS, &golden);
}

#[test]
fn a_difference_is_named() {
    let golden = |pairs: &[(&str, &[u8])]| -> Golden {
        let pair = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
        pairs.iter().map(pair).collect()
    };
    let old = golden(&[("a", &[1, 2]), ("b", &[3]), ("c", &[4])]);
    let new = golden(&[("a", &[1, 9, 9]), ("b", &[3]), ("d", &[5])]);
    assert_eq!(
        differences("g", &old, &new),
        [
            "g/a: changed from byte 1 on (3 bytes, were 2)",
            "g/c: is no longer made",
            "g/d: has no golden bytes",
        ]
    );
}
