//! The worked example: a ledger of three entries, made by the code that ships, from keys that the document states.

use countersign_tests::kit::{
    GENESIS_US, ORIGIN, SECOND, genesis_message, key, node_card, node_name, public_key,
    trust_policy,
};
use ed25519_dalek::SigningKey;
use ledger_core::command::command_digest;
use ledger_core::compartment::commit;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::id::{Identity, KeyId, SessionId};
use ledger_core::keys::possession_message;
use ledger_core::machine::{self, Appended, Applied, Machine, SignatureChecks};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign, cosignature_message};
use ledger_core::signature::{SignatureDomain, sign_batch, signing_message};
use ledger_core::signer::Signer;
use ledger_core::state::{Key, MemoryState, Txn, state_digest};
use ledger_core::tree::batch::{batch_path, batch_root};
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::proof::{MemoryTiles, Prover};
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use policy_engine::{Decimal, HistoryScope, Value};
use prost::Message;

/// A value of the example, as the document shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// In hex.
    Bytes(Vec<u8>),
    /// As it is, newlines as `\n`.
    Text(String),
}

/// Everything the example shows, in the order of the document.
#[derive(Debug, Default)]
pub(super) struct Example(pub(super) Vec<(String, Shown)>);

impl Example {
    fn bytes(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let shown = Shown::Bytes(bytes.as_ref().to_vec());
        self.0.push((name.to_owned(), shown));
    }

    fn text(&mut self, name: &str, text: impl ToString) {
        let shown = Shown::Text(text.to_string().replace('\n', "\\n"));
        self.0.push((name.to_owned(), shown));
    }
}

/// Computes the whole example.
pub(super) fn example() -> Example {
    let mut example = Example::default();
    keys(&mut example);
    let mut ledger = Ledger::begin(&mut example);
    first_command(&mut example, &mut ledger);
    batch_of_two(&mut example, &mut ledger);
    tree(&mut example, &ledger);
    notes(&mut example, &ledger);
    digests_of_state(&mut example, &ledger);
    values(&mut example);
    example
}

fn root_operator() -> Identity {
    Identity::Operator("root".to_owned())
}

fn root_key() -> SigningKey {
    key(&root_operator().to_string())
}

fn log_key() -> SigningKey {
    key("log")
}

fn node_key() -> SigningKey {
    key(&Identity::Node(1).to_string())
}

fn key_id(signer: &dyn Signer) -> KeyId {
    public_key(signer).key_id()
}

fn keys(example: &mut Example) {
    for (name, key) in [
        ("root", root_key()),
        ("log", log_key()),
        ("node", node_key()),
    ] {
        example.bytes(&format!("{name}.seed"), key.to_bytes());
        example.bytes(&format!("{name}.public"), key.public_key());
    }
    example.bytes("root.key_id", key_id(&root_key()).as_bytes());
    let message = possession_message(ORIGIN, &root_operator());
    example.bytes("root.possession_message", &message);
    example.bytes("root.possession", Signer::sign(&root_key(), &message));
}

/// The ledger of the example while it grows.
struct Ledger {
    state: MemoryState,
    entries: Vec<Appended>,
}

impl Ledger {
    fn begin(example: &mut Example) -> Self {
        let genesis = v1::Genesis {
            recovery_key: None,
            nodes: vec![node_card(ORIGIN, 1)],
            trust_policy: trust_policy(ORIGIN, &[1]),
            ..genesis_message(TreeHash::Sha256)
        };
        let mut state = MemoryState::new();
        let mut txn = Txn::new(&state);
        let appended = machine::genesis(&mut txn, &genesis).expect("a genesis");
        let writes = txn.into_writes();
        state.commit(writes);
        example.text("trust_policy", &genesis.trust_policy);
        example.bytes("genesis", genesis.encode_to_vec());
        example.bytes(
            "genesis.digest",
            machine::genesis_digest(&genesis).as_bytes(),
        );
        example.bytes("entry0", &appended.bytes);
        example.bytes("entry0.leaf", appended.leaf_hash.as_bytes());
        Self {
            state,
            entries: vec![appended],
        }
    }

    fn apply(&mut self, submission: &v1::Submission) {
        let machine = Machine::new();
        let mut txn = Txn::new(&self.state);
        let time_us = GENESIS_US + SECOND * self.entries.len() as u64;
        let applied = machine.apply(&mut txn, time_us, submission, &SignatureChecks::default());
        let Applied::Appended(appended) = applied.expect("sound") else {
            panic!("the example makes entries only");
        };
        let writes = txn.into_writes();
        self.state.commit(writes);
        self.entries.push(*appended);
    }
}

/// Creates a namespace.
fn create(number: u8, name: &str, commitments: Vec<v1::Commitment>) -> Vec<u8> {
    v1::Command {
        request_id: vec![number; 16],
        issued_at_us: GENESIS_US + SECOND,
        author: Some(root_operator().to_message()),
        commitments,
        cosigners: Vec::new(),
        body: Some(Body::CreateNamespace(v1::CreateNamespace {
            name: name.to_owned(),
            owners: Vec::new(),
            single_use: false,
        })),
    }
    .encode_to_vec()
}

fn first_command(example: &mut Example, ledger: &mut Ledger) {
    let (salt, reason) = ([0x5a; 32], b"for the payment agents");
    let commitment = commit(CompartmentKind::Reason, &salt, reason);
    example.bytes("reason.salt", salt);
    example.bytes("reason.content", reason);
    example.bytes("reason.commitment", &commitment.digest);

    let command = create(1, "team", vec![commitment]);
    example.bytes("command1", &command);
    example.bytes("command1.digest", command_digest(&command).as_bytes());
    let root = batch_root(&[&command]).expect("one command");
    example.bytes("command1.batch_root", root.as_bytes());
    let domain = SignatureDomain::Command;
    example.bytes(
        "command1.message",
        signing_message(domain, ORIGIN, 1, &root),
    );
    let signer = root_key();
    let signatures = sign_batch(domain, ORIGIN, &[&command], key_id(&signer), &signer);
    let signatures = signatures.expect("one command");
    example.bytes("command1.signature", &signatures[0].signature);
    ledger.apply(&v1::Submission {
        signed: Some(v1::SignedCommand {
            command,
            signatures,
        }),
        compartments: vec![v1::Compartment {
            kind: CompartmentKind::Reason.into(),
            salt: salt.to_vec(),
            content: reason.to_vec(),
        }],
    });
    example.bytes("entry1", &ledger.entries[1].bytes);
    example.bytes("entry1.leaf", ledger.entries[1].leaf_hash.as_bytes());
}

fn batch_of_two(example: &mut Example, ledger: &mut Ledger) {
    let (two, three) = (create(2, "lab", Vec::new()), create(3, "ops", Vec::new()));
    let batch = [two.as_slice(), three.as_slice()];
    example.bytes("command2", &two);
    example.bytes("command3", &three);
    let root = batch_root(&batch).expect("two commands");
    example.bytes("batch.root", root.as_bytes());
    let domain = SignatureDomain::Command;
    example.bytes("batch.message", signing_message(domain, ORIGIN, 2, &root));
    let signer = root_key();
    let signatures = sign_batch(domain, ORIGIN, &batch, key_id(&signer), &signer);
    let signatures = signatures.expect("two commands");
    example.bytes("batch.signature", &signatures[0].signature);
    let path = batch_path(&batch, 0).expect("the first of two");
    example.bytes("batch.path_of_command2", path[0].as_bytes());
    ledger.apply(&v1::Submission {
        signed: Some(v1::SignedCommand {
            command: two.clone(),
            signatures: vec![signatures[0].clone()],
        }),
        compartments: Vec::new(),
    });
    example.bytes("entry2", &ledger.entries[2].bytes);
    example.bytes("entry2.leaf", ledger.entries[2].leaf_hash.as_bytes());
}

fn tree(example: &mut Example, ledger: &Ledger) {
    let (mut frontier, mut tiles) = (Frontier::new(TreeHash::Sha256), MemoryTiles::new());
    let mut blake3 = Frontier::new(TreeHash::Blake3);
    for entry in &ledger.entries {
        tiles.store(&frontier.append(entry.leaf_hash));
        blake3.append(TreeHash::Blake3.leaf(&entry.bytes));
    }
    let tip = machine::tip(&ledger.state).expect("sound");
    assert_eq!(tip.root, frontier.root());
    example.bytes("root3", tip.root.as_bytes());
    example.bytes("frontier3", frontier.to_bytes());
    let flat =
        |path: &[Hash]| -> Vec<u8> { path.iter().flat_map(|hash| *hash.as_bytes()).collect() };
    let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(3));
    let path = prover.inclusion(LeafIndex(1)).expect("a leaf");
    example.bytes("inclusion_of_1_in_3", flat(&path));
    let proof = prover.consistency(TreeSize(2)).expect("an older size");
    example.bytes("consistency_of_2_to_3", flat(&proof));
    example.bytes(
        "entry1.leaf_blake3",
        TreeHash::Blake3.leaf(&ledger.entries[1].bytes).as_bytes(),
    );
    example.bytes("root3_blake3", blake3.root().as_bytes());
}

fn notes(example: &mut Example, ledger: &Ledger) {
    let tip = machine::tip(&ledger.state).expect("sound");
    let checkpoint = Checkpoint::new(ORIGIN, tip.size, tip.root).expect("a checkpoint");
    let time = CosignatureTime::from_seconds(tip.time_us / SECOND).expect("in range");
    let mut note = checkpoint.sign(&log_key()).expect("signs");
    let name = node_name(ORIGIN, 1);
    let cosignature = cosign(&checkpoint, time, &name, &node_key()).expect("cosigns");
    note.add(cosignature.clone()).expect("room");
    example.text("checkpoint", &checkpoint);
    example.text("checkpoint.log_line", &note.signatures()[0]);
    example.text(
        "checkpoint.cosignature_message",
        String::from_utf8(cosignature_message(time, &checkpoint.to_string())).expect("text"),
    );
    example.text("checkpoint.cosignature_line", &cosignature);
    example.text("note", &note);
}

fn digests_of_state(example: &mut Example, ledger: &Ledger) {
    let digest = state_digest(&ledger.state).expect("sound");
    example.bytes("state.digest", digest.as_bytes());
    let root = root_operator();
    let request = ledger_core::id::RequestId::from_bytes([1; 16]);
    let bundle = policy_engine::BundleDigest([0xbb; 32]);
    let partition = Key::partition("team", HistoryScope::Agent, b"bot");
    for (name, key) in [
        ("key.operator", Key::operator("root")),
        (
            "key.key_of_identity",
            Key::key_of(&root, key_id(&root_key())),
        ),
        ("key.session", Key::session(SessionId::from_bytes([1; 16]))),
        ("key.bundle_chunk", Key::bundle_chunk("team", &bundle, 2)),
        ("key.request", Key::request(&root, request)),
        ("key.partition", partition.clone()),
        ("key.partition_expiry", Key::partition_expiry(7, &partition)),
        ("key.entry", Key::entry(LeafIndex(2))),
        ("key.tile_hash", Key::tile_hash(0, 2)),
        (
            "key.compartment",
            Key::compartment(LeafIndex(1), CompartmentKind::Reason),
        ),
    ] {
        example.bytes(name, key.as_bytes());
    }
}

fn values(example: &mut Example) {
    let fields = [
        ("amount".to_owned(), Value::Decimal(Decimal(123_400))),
        (
            "tags".to_owned(),
            Value::Set([-1, 1].map(Value::Long).into()),
        ),
        ("to".to_owned(), Value::String("alice".to_owned())),
        ("urgent".to_owned(), Value::Bool(true)),
    ];
    example.bytes("value", Value::Record(fields.into()).to_bytes());
}
