//! Inclusion and consistency proofs, compared with another implementation, and the small encodings of the tree.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use digest::Digest;
use ledger_core::hash::{HASH_LEN, Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::proof::{MemoryTiles, Prover};
use ledger_core::tree::tile::Tile;
use ledger_core::tree::verify::{verify_consistency, verify_inclusion};

/// Largest tree of one input.
const MAX_SIZE: u64 = 600;

/// Bytes, taken one after the other; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        u64::from(u16::from_be_bytes([self.next(), self.next()]))
    }
}

/// The first byte says what the rest is: a proof to be built, changed and verified, a frontier, or the path of a tile.
///
/// # Panics
/// If the two implementations disagree, or an encoding has two forms.
pub fn target_proof(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => inclusion::<sha2::Sha256>(TreeHash::Sha256, Bytes(rest)),
        1 => inclusion::<blake3::Hasher>(TreeHash::Blake3, Bytes(rest)),
        2 => consistency::<sha2::Sha256>(TreeHash::Sha256, Bytes(rest)),
        3 => consistency::<blake3::Hasher>(TreeHash::Blake3, Bytes(rest)),
        4 => {
            if let Ok(mut frontier) = Frontier::from_bytes(TreeHash::Sha256, rest) {
                assert_eq!(frontier.to_bytes(), rest, "a frontier has one form");
                let before = frontier.root();
                frontier.append(TreeHash::Sha256.leaf(b"next"));
                assert_ne!(frontier.root(), before);
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(rest)
                && let Ok(tile) = Tile::parse(text)
            {
                assert_eq!(tile.path(), text, "a tile has one path");
            }
        }
    }
}

fn leaf(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn tree(hash: TreeHash, size: u64) -> (MemoryTiles, Hash) {
    let (mut frontier, mut tiles) = (Frontier::new(hash), MemoryTiles::new());
    for index in 0..size {
        tiles.store(&frontier.append(hash.leaf(&leaf(index))));
    }
    (tiles, frontier.root())
}

/// Changes a path as the bytes say: flips, cuts, repeats, swaps.
fn change(path: &mut Vec<Hash>, bytes: &mut Bytes<'_>) {
    while !bytes.0.is_empty() {
        let (what, at) = (bytes.next(), usize::from(bytes.next()));
        let len = path.len();
        match what % 5 {
            0 if len > 0 => {
                path.remove(at % len);
            }
            1 if len > 1 => path.swap(at % len, (at + 1) % len),
            2 if len > 0 && len < 80 => path.insert(at % len, path[at % len]),
            3 if len > 0 => {
                let mut changed = *path[at % len].as_bytes();
                changed[usize::from(bytes.next()) % HASH_LEN] ^= bytes.next();
                path[at % len] = Hash::from_bytes(changed);
            }
            4 if len < 80 => path.push(Hash::from_bytes([bytes.next(); HASH_LEN])),
            _ => {}
        }
    }
}

fn flat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

fn oracle_root<D: Digest>(root: &Hash, size: u64) -> RootHash<D> {
    let mut output = digest::Output::<D>::default();
    output.copy_from_slice(root.as_bytes());
    RootHash::new(output, size)
}

fn inclusion<D: Digest>(hash: TreeHash, mut bytes: Bytes<'_>) {
    let size = bytes.number() % MAX_SIZE + 1;
    let index = bytes.number() % size;
    let (tiles, root) = tree(hash, size);
    let mut path = Prover::new(&tiles, hash, TreeSize(size))
        .inclusion(LeafIndex(index))
        .expect("a leaf of the tree");
    // Another place, or another size, with the same path.
    let claimed_index = index ^ (bytes.number() >> 6);
    let claimed_size = size ^ (bytes.number() >> 6);
    change(&mut path, &mut bytes);
    let ours = verify_inclusion(
        hash,
        &hash.leaf(&leaf(index)),
        LeafIndex(claimed_index),
        TreeSize(claimed_size),
        &path,
        &root,
    );
    let theirs = InclusionProof::<D>::try_from_bytes(flat(&path)).is_ok_and(|proof| {
        oracle_root::<D>(&root, claimed_size)
            .verify_inclusion(&leaf(index), claimed_index, &proof)
            .is_ok()
    });
    assert_eq!(
        ours.is_ok(),
        theirs,
        "{index} of {size} as {claimed_index} of {claimed_size}"
    );
    if claimed_size == size && ours.is_ok() {
        assert_eq!(claimed_index, index, "a leaf proven at another place");
    }
}

fn consistency<D: Digest>(hash: TreeHash, mut bytes: Bytes<'_>) {
    let newer = bytes.number() % MAX_SIZE + 1;
    let older = bytes.number() % newer + 1;
    let (tiles, newer_root) = tree(hash, newer);
    let older_root = tree(hash, older).1;
    let mut proof = Prover::new(&tiles, hash, TreeSize(newer))
        .consistency(TreeSize(older))
        .expect("an older size");
    let claimed_older = older ^ (bytes.number() >> 6);
    let claimed_newer = newer ^ (bytes.number() >> 6);
    change(&mut proof, &mut bytes);
    let ours = verify_consistency(
        hash,
        TreeSize(claimed_older),
        &older_root,
        TreeSize(claimed_newer),
        &newer_root,
        &proof,
    );
    let theirs = ConsistencyProof::<D>::try_from_bytes(flat(&proof)).is_ok_and(|proof| {
        oracle_root::<D>(&newer_root, claimed_newer)
            .verify_consistency(&oracle_root::<D>(&older_root, claimed_older), &proof)
            .is_ok()
    });
    assert_eq!(
        ours.is_ok(),
        theirs,
        "{older} to {newer} as {claimed_older} to {claimed_newer}"
    );
}
