//! Entries and the tree over them: every leaf is hashed again, and every stored hash computed again.

use ledger_core::hash::{Hash, LeafIndex, TreeSize};
use ledger_core::state::{Family, Key};
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::tile::row_len;
use ledger_proto::v1::entry::Body;

use super::{Check, Enough, Go, Ground, MAX_FINDINGS, Seen, content};
use crate::storage::Table;

/// The tree, computed twice: from the entries, and from the stored hashes of leaves. Where the two differ, the root of the
/// ledger says which of them is damaged.
struct Trees {
    of_entries: Frontier,
    of_hashes: Frontier,
    /// The leaves at which an entry and its stored hash differ.
    differences: Vec<u64>,
}

pub(super) fn check(check: &mut Check<'_>, ground: &Ground, seen: &mut Seen) -> Go {
    let mut trees = Trees {
        of_entries: Frontier::new(ground.hash),
        of_hashes: Frontier::new(ground.hash),
        differences: Vec::new(),
    };
    let prefix = Key::family(Family::Entry);
    check.walk(Table::State, prefix.as_bytes(), |check, key, bytes| {
        let leaf = LeafIndex(trees.of_entries.size().0);
        let expected = Key::entry(leaf);
        if key != expected.as_bytes() {
            let (at, what) = if key > expected.as_bytes() {
                (
                    expected.as_bytes(),
                    "is missing, although there are later entries",
                )
            } else {
                (key, "is no leaf")
            };
            return check.end(Table::State, at, what);
        }
        if leaf.0 >= ground.size().0 {
            let size = ground.size();
            return check.end(
                Table::State,
                key,
                format!("is beyond the tree of {size} entries"),
            );
        }
        append(check, ground, &mut trees, bytes)?;
        content::check_entry(check, ground, seen, leaf, bytes)
    })?;
    if trees.of_entries.size() < ground.size() {
        let next = Key::entry(LeafIndex(trees.of_entries.size().0));
        let size = ground.size();
        return check.end(
            Table::State,
            next.as_bytes(),
            format!("is missing, although the tree has {size} entries"),
        );
    }
    judge(check, ground, &trees)?;
    check_head(check, ground, seen, &trees)?;
    check_genesis(check, ground)?;
    check_rows(check, ground.size())
}

fn append(check: &mut Check<'_>, ground: &Ground, trees: &mut Trees, bytes: &[u8]) -> Go {
    let leaf = trees.of_entries.size().0;
    let leaf_hash = ground.hash.leaf(bytes);
    let mut stored_leaf = leaf_hash;
    for write in trees.of_entries.append(leaf_hash) {
        let key = Key::tile_hash(write.level, write.tile * 256 + u64::from(write.position));
        let Some(stored) = check.state(&key)? else {
            check.found(
                Table::State,
                key.as_bytes(),
                "a hash of the tree is missing",
            )?;
            continue;
        };
        let stored = Hash::from_slice(&stored);
        if stored == Some(write.hash) {
            continue;
        }
        match stored {
            None => check.found(Table::State, key.as_bytes(), "does not have 32 bytes")?,
            Some(stored) if write.level == 0 => {
                stored_leaf = stored;
                if trees.differences.len() < MAX_FINDINGS {
                    trees.differences.push(leaf);
                }
            }
            // Above a leaf that differs this may follow from it.
            Some(_) if trees.differences.is_empty() => check.found(
                Table::State,
                key.as_bytes(),
                "a hash of the tree is not that of the hashes below it",
            )?,
            Some(_) => {}
        }
    }
    trees.of_hashes.append(stored_leaf);
    Ok(())
}

/// Says which of the two is damaged where entries and hashes differ.
fn judge(check: &mut Check<'_>, ground: &Ground, trees: &Trees) -> Go {
    let root = ground.head.root();
    let entries_hold = trees.of_entries.root() == root;
    let hashes_hold = trees.of_hashes.root() == root;
    for leaf in &trees.differences {
        if !entries_hold {
            check.found(
                Table::State,
                Key::entry(LeafIndex(*leaf)).as_bytes(),
                "the entry is not the one that is in the tree",
            )?;
        }
        if !hashes_hold {
            check.found(
                Table::State,
                Key::tile_hash(0, *leaf).as_bytes(),
                "the hash of a leaf is not the one that is in the tree",
            )?;
        }
    }
    Ok(())
}

fn check_head(check: &mut Check<'_>, ground: &Ground, seen: &Seen, trees: &Trees) -> Go {
    let head = Key::head();
    let (ours, theirs) = (trees.of_entries.root(), ground.head.root());
    let either = [ours, trees.of_hashes.root()].contains(&theirs);
    if !either {
        let what = format!("the root is {theirs}, and that of the entries is {ours}");
        check.found(Table::State, head.as_bytes(), what)?;
    }
    if ground.head.time_us != seen.time_us {
        check.found(
            Table::State,
            head.as_bytes(),
            "the time is not that of the last entry",
        )?;
    }
    if ground.ledger.time_offset_us != seen.time_offset_us
        || ground.ledger.adjusted_at_us != seen.adjusted_at_us
    {
        let what = "the time offset is not that of the last entry that adjusted it";
        check.found(Table::State, Key::ledger().as_bytes(), what)?;
    }
    Ok(())
}

/// The ledger is the one that its first entry begins.
fn check_genesis(check: &mut Check<'_>, ground: &Ground) -> Go {
    let ledger = &ground.ledger;
    let key = Key::ledger();
    let Some(entry) = check.entry(0)? else {
        return Ok(());
    };
    let Some(Body::Genesis(genesis)) = &entry.body else {
        return check.found(
            Table::State,
            Key::entry(LeafIndex(0)).as_bytes(),
            "the first entry is no genesis",
        );
    };
    let digest = ledger_core::machine::genesis_digest(genesis);
    let same = ledger.genesis_digest == digest.as_bytes()
        && ledger.origin == genesis.origin
        && ledger.tree_hash == genesis.tree_hash;
    if !same {
        check.found(Table::State, key.as_bytes(), "is not that of the genesis")?;
    }
    if let Some(own) = check.get(Table::Meta, crate::storage::meta::GENESIS)?
        && own != digest.as_bytes()
    {
        check.found(
            Table::Meta,
            crate::storage::meta::GENESIS,
            "this node was made for another ledger than the one that is here",
        )?;
    }
    Ok(())
}

/// No row of the tree has more hashes than its size gives it. That it has no fewer was seen with the entries.
fn check_rows(check: &mut Check<'_>, size: TreeSize) -> Go {
    let prefix = Key::family(Family::TileHash);
    check.walk(Table::State, prefix.as_bytes(), |check, key, _| {
        let place = match key {
            [_, level, index @ ..] => <[u8; 8]>::try_from(index)
                .ok()
                .map(|index| (*level, u64::from_be_bytes(index))),
            _ => None,
        };
        let inside = place.is_some_and(|(level, index)| index < row_len(size, level));
        if inside {
            Ok::<(), Enough>(())
        } else {
            check.found(Table::State, key, "is no hash of a tree of this size")
        }
    })?;
    Ok(())
}
