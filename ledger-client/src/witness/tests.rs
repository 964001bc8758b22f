//! One witness and a log that goes on, forks, is put back and lies.

use ed25519_dalek::SigningKey;
use ledger_core::hash::TreeHash;
use ledger_core::keys::PublicKey;
use ledger_core::note::signed_note::NoteSignature;
use ledger_core::signer::Signer as _;
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::proof::{MemoryTiles, Prover};

use super::*;

const ORIGIN: &str = "ledger.test/prod";

fn log_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn node_name(node: u8) -> String {
    format!("{ORIGIN}/node-{node}")
}

fn node_key(node: u8) -> SigningKey {
    SigningKey::from_bytes(&[100 + node; 32])
}

/// The trust policy of three nodes, of which two must cosign, and this witness.
fn policy(witness: &VerifierKey) -> String {
    let public = |key: &SigningKey| PublicKey::from_bytes(&key.public_key()).unwrap();
    let log = VerifierKey::new(ORIGIN, KeyType::Ed25519, public(&log_key(1))).unwrap();
    let mut text = format!("log {log}\n");
    for node in 1..=3 {
        let key = public(&node_key(node));
        let key = VerifierKey::new(&node_name(node), KeyType::CosignatureV1, key).unwrap();
        text.push_str(&format!("witness node-{node} {key}\n"));
    }
    text.push_str(&format!("witness w1 {witness} http://127.0.0.1:1\n"));
    text.push_str("group nodes 2 node-1 node-2 node-3\ngroup witnesses all w1\n");
    text.push_str("group trust all nodes witnesses\nquorum trust\n");
    text
}

/// A checkpoint that a log and these nodes have signed.
fn signed(checkpoint: &Checkpoint, seed: u8, nodes: &[u8]) -> String {
    let mut note = checkpoint.sign(&log_key(seed)).unwrap();
    let time = CosignatureTime::from_seconds(1_795_392_000).unwrap();
    for node in nodes {
        let line = cosign(checkpoint, time, &node_name(*node), &node_key(*node));
        note.add(line.unwrap()).unwrap();
    }
    note.to_string()
}

/// A tree whose entries from `fork` on are others than those of the tree without.
struct Tree {
    tiles: MemoryTiles,
    roots: Vec<ledger_core::hash::Hash>,
}

impl Tree {
    fn new(size: u64, fork: u64) -> Self {
        let hash = TreeHash::Sha256;
        let (mut frontier, mut tiles) = (Frontier::new(hash), MemoryTiles::new());
        let mut roots = vec![frontier.root()];
        for index in 0..size {
            let leaf = [index.to_be_bytes(), u64::from(index >= fork).to_be_bytes()].concat();
            tiles.store(&frontier.append(hash.leaf(&leaf)));
            roots.push(frontier.root());
        }
        Self { tiles, roots }
    }

    fn checkpoint(&self, size: u64, seed: u8, nodes: &[u8]) -> String {
        let root = self.roots[usize::try_from(size).unwrap()];
        let checkpoint = Checkpoint::new(ORIGIN, TreeSize(size), root).unwrap();
        signed(&checkpoint, seed, nodes)
    }

    /// What a log sends that believes that the witness has cosigned `old` entries.
    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let proof = if old == 0 || old > size {
            Vec::new()
        } else {
            let mut prover = Prover::new(&self.tiles, TreeHash::Sha256, TreeSize(size));
            prover.consistency(TreeSize(old)).unwrap()
        };
        AddCheckpoint {
            old: TreeSize(old),
            proof,
            checkpoint: self.checkpoint(size, 1, &[1, 2]),
        }
    }

    /// The same, signed by other nodes.
    fn request_of(&self, old: u64, size: u64, nodes: &[u8]) -> AddCheckpoint {
        AddCheckpoint {
            checkpoint: self.checkpoint(size, 1, nodes),
            ..self.request(old, size)
        }
    }
}

struct World {
    folder: tempfile::TempDir,
    witness: Option<Witness>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vkey = create(&folder.path().join("w"), "w.test/1").unwrap();
        fs::write(folder.path().join("trust"), policy(&vkey)).unwrap();
        let mut world = Self {
            folder,
            witness: None,
        };
        world.restart();
        world
    }

    fn restart(&mut self) {
        self.witness = None;
        self.witness = Some(self.open().unwrap());
    }

    fn open(&self) -> Result<Witness, Error> {
        let policies = [self.folder.path().join("trust")];
        Witness::open(&self.folder.path().join("w"), &policies, &[])
    }

    fn ask(&self, request: &AddCheckpoint) -> WitnessReply {
        let witness = self.witness.as_ref().unwrap();
        let reply = witness.add_checkpoint(request.to_string().as_bytes(), 1_795_392_000);
        reply.unwrap()
    }

    fn status(&self, request: &AddCheckpoint) -> u16 {
        self.ask(request).status.as_u16()
    }
}

#[test]
fn a_tree_is_cosigned_that_contains_the_one_before() {
    let (mut world, tree) = (World::new(), Tree::new(20, 99));
    for (old, size) in [(0, 3), (3, 3), (3, 8), (8, 20)] {
        let request = tree.request(old, size);
        let reply = world.ask(&request);
        assert_eq!(reply.status, StatusCode::OK, "{old} {size}: {reply:?}");
        let mut note = Note::parse(request.checkpoint.as_bytes()).unwrap();
        let line = reply.body.strip_suffix('\n').unwrap();
        note.add(NoteSignature::parse(line).unwrap()).unwrap();
        let witness = world.witness.as_ref().unwrap();
        let opened = note.open(&[witness.vkey()]).unwrap();
        assert_eq!(opened.verified.len(), 1);
        // It remembers over a restart.
        world.restart();
    }
}

#[test]
fn a_fork_and_a_shorter_ledger_are_refused_over_restarts_too() {
    let (mut world, tree, fork) = (World::new(), Tree::new(20, 99), Tree::new(30, 5));
    assert_eq!(world.status(&tree.request(0, 10)), 200);
    for _ in 0..2 {
        // The other tree of the same size, and a larger one that contains it.
        assert_eq!(world.status(&fork.request(10, 10)), 422);
        assert_eq!(world.status(&fork.request(10, 30)), 422);
        // From the beginning again, or from where both trees are one.
        for old in [0, 4, 5, 11] {
            let reply = world.ask(&fork.request(old, 30));
            assert_eq!(reply.status, StatusCode::CONFLICT);
            assert_eq!(
                (reply.content_type, reply.body.as_str()),
                (SIZE_MEDIA_TYPE, "10\n")
            );
        }
        assert_eq!(world.status(&tree.request(9, 9)), 409);
        assert_eq!(world.status(&tree.request(10, 9)), 400);
        world.restart();
    }
    assert_eq!(world.status(&tree.request(10, 20)), 200);
}

#[test]
fn strangers_and_noise_are_refused() {
    let (world, tree) = (World::new(), Tree::new(20, 99));
    let good = tree.request(0, 3);
    let with = |change: &dyn Fn(&mut AddCheckpoint)| {
        let mut request = good.clone();
        change(&mut request);
        world.status(&request)
    };
    assert_eq!(
        with(&|r| r.checkpoint = tree.checkpoint(3, 2, &[1, 2])),
        403
    );
    assert_eq!(
        with(&|r| r.checkpoint = r.checkpoint.replace("/prod", "/test")),
        404
    );
    assert_eq!(
        with(&|r| r.checkpoint = r.checkpoint.replacen("\n3\n", "\n4\n", 1)),
        403
    );
    assert_eq!(with(&|r| r.checkpoint.clear()), 400);
    assert_eq!(with(&|r| r.proof = vec![tree.roots[1]]), 422);
    assert_eq!(with(&|r| r.old = TreeSize(9)), 400);
    let empty = Checkpoint::new(ORIGIN, TreeSize(0), tree.roots[1]).unwrap();
    let empty = signed(&empty, 1, &[1, 2]);
    assert_eq!(with(&|r| r.checkpoint.clone_from(&empty)), 422);
    let witness = world.witness.as_ref().unwrap();
    let noise = witness.add_checkpoint(b"noise", 0).unwrap();
    assert_eq!(noise.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.status(&good), 200, "nothing of it was remembered");
}

/// Each node has the log's key. One that lies, and whoever has stolen it, would otherwise have a tree of its own making cosigned, and
/// the witness would refuse the ledger for ever.
#[test]
fn without_a_quorum_of_nodes_the_logs_key_changes_nothing() {
    // A fork has the first 16 entries of the ledger, and then its own.
    let (mut world, tree, fork) = (World::new(), Tree::new(20, 99), Tree::new(20, 16));
    assert_eq!(world.status(&tree.request(0, 16)), 200);
    for nodes in [&[][..], &[1], &[3]] {
        let reply = world.ask(&fork.request_of(16, 17, nodes));
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{nodes:?}");
        assert!(reply.body.contains("nodes have not cosigned"), "{reply:?}");
        assert_eq!(reply.lacks_nodes_of.as_deref(), Some(ORIGIN));
        // Nor for a tree that it has cosigned before.
        assert_eq!(world.status(&tree.request_of(16, 16, nodes)), 403);
        world.restart();
    }
    // A quorum in name only.
    let mut forged = fork.request_of(16, 17, &[1, 2]);
    let honest = tree.checkpoint(17, 1, &[2]);
    let stolen = honest.lines().last().unwrap();
    let own = forged.checkpoint.lines().last().unwrap().to_owned();
    forged.checkpoint = forged.checkpoint.replace(&own, stolen);
    assert_eq!(world.status(&forged), 403);
    for nodes in [&[1, 2][..], &[2, 3], &[1, 2, 3]] {
        assert_eq!(world.status(&tree.request_of(16, 16, nodes)), 200);
    }
    assert_eq!(world.status(&tree.request(16, 20)), 200);
}

#[test]
fn endpoints_belong_to_policies_one_by_one() {
    let mut world = World::new();
    world.witness = None;
    let folder = world.folder.path().join("w");
    let policies = [world.folder.path().join("trust")];
    let nodes = vec!["http://127.0.0.1:1".to_owned()];
    let two = Witness::open(&folder, &policies, &[nodes.clone(), nodes.clone()]);
    assert!(
        two.unwrap_err()
            .to_string()
            .contains("once for each --trust")
    );
    Witness::open(&folder, &policies, &[nodes]).unwrap();
}

#[test]
fn who_has_forgotten_does_not_serve() {
    let (mut world, tree) = (World::new(), Tree::new(20, 99));
    assert!(world.open().unwrap_err().to_string().contains("in use"));
    assert_eq!(world.status(&tree.request(0, 10)), 200);
    world.witness = None;
    let cosigned = world.folder.path().join("w/cosigned");
    let file = fs::read_dir(&cosigned)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for damage in ["", "noise"] {
        fs::write(&file, damage).unwrap();
        let error = world.open().unwrap_err().to_string();
        assert!(error.contains("make a new one"), "{error}");
    }
    fs::remove_dir_all(&cosigned).unwrap();
    let error = world.open().unwrap_err().to_string();
    assert!(error.contains("make a new one"), "{error}");
    let again = create(&world.folder.path().join("w"), "w.test/1").unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
    let named = create(&world.folder.path().join("x"), "w test").unwrap_err();
    assert!(named.to_string().contains("cannot name a key"), "{named}");
    assert!(!world.folder.path().join("x").exists());
}
