//! What a marker keeps, what it refuses, and what a damaged one does.

mod put_back;

use ledger_core::hash::TreeSize;
use proptest::prelude::*;

use super::record::keeps_vote;
use super::slot::{Decoded, RECORD_LEN, decode};
use super::*;
use crate::storage::instance::{FileIdentity, InstanceFile};

const DIGEST: Hash = Hash::from_bytes([7; 32]);
const STORE: StoreId = StoreId::from_bytes([8; 16]);

fn tree(size: u64, root: u8) -> MarkedTree {
    MarkedTree {
        size: TreeSize(size),
        root: Hash::from_bytes([root; 32]),
    }
}

const fn file((device, inode, born_at_ns): (u64, u64, u64)) -> FileIdentity {
    FileIdentity {
        device,
        inode,
        born_at_ns,
    }
}

fn full() -> MarkerRecord {
    MarkerRecord {
        node_id: 3,
        genesis_digest: DIGEST,
        store_id: STORE,
        instance: Some(InstanceFile {
            nonce: [9; 16],
            file: file((10, 11, 12)),
            changed_at_ns: 13,
            marker: file((14, 15, 16)),
        }),
        vote: Some(MarkedVote {
            term: 5,
            node: 2,
            committed: true,
        }),
        committed: Some(MarkedLogId { term: 5, index: 90 }),
        cosigned: Some(tree(80, 1)),
    }
}

/// A record of a node that runs with this marker.
fn of_its_file(marker: &Marker) -> MarkerRecord {
    let full = full();
    let identity = marker.file_identity().unwrap();
    let of_file = |instance| InstanceFile {
        marker: identity,
        ..instance
    };
    MarkerRecord {
        instance: full.instance.map(of_file),
        ..full
    }
}

fn file_with(slots: [&[u8]; 2]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARKER_FILE), slots.concat()).unwrap();
    dir
}

#[test]
fn the_layout_is_pinned() {
    let slot = encode(9, &full());
    assert_eq!(
        blake3::hash(&slot).to_hex().as_str(),
        "644afd84b21860a9aadb03d9361b3a290f12725ff7d47065fe7a8167fc8092bd"
    );
    assert!(slot[RECORD_LEN + 32..].iter().all(|byte| *byte == 0));
    assert_ne!(slot[RECORD_LEN - 32..RECORD_LEN + 32], [0; 64]);
}

#[test]
fn what_is_updated_is_read_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let marker = Marker::create(dir.path(), 3, DIGEST, STORE).unwrap();
    for index in 1..=5 {
        marker
            .update(|record| record.committed = Some(MarkedLogId { term: 1, index }))
            .unwrap();
        assert_eq!(Marker::peek(dir.path()).unwrap(), marker.read());
    }
    let full = of_its_file(&marker);
    marker.update(|record| *record = full).unwrap();
    assert!(matches!(Marker::open(dir.path()), Err(MarkerError::Locked)));
    drop(marker);
    assert_eq!(Marker::open(dir.path()).unwrap().read(), full);
    assert!(matches!(
        Marker::create(dir.path(), 3, DIGEST, STORE),
        Err(MarkerError::Exists)
    ));
    assert_eq!(Marker::open(dir.path()).unwrap().read(), full);
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn nothing_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let marker = Marker::create(dir.path(), 3, DIGEST, STORE).unwrap();
    marker.update(|record| *record = full()).unwrap();
    let vote = full().vote.unwrap();
    let back: [fn(&mut MarkerRecord, MarkedVote); 13] = [
        |record, _| record.node_id = 4,
        |record, _| record.genesis_digest = Hash::from_bytes([8; 32]),
        |record, _| record.store_id = StoreId::from_bytes([1; 16]),
        |record, _| record.instance = None,
        |record, _| record.vote = None,
        |record, vote| record.vote = Some(MarkedVote { term: 4, ..vote }),
        |record, vote| record.vote = Some(MarkedVote { node: 1, ..vote }),
        |record, vote| {
            record.vote = Some(MarkedVote {
                committed: false,
                ..vote
            });
        },
        |record, _| record.committed = None,
        |record, _| record.committed = Some(MarkedLogId { term: 5, index: 89 }),
        |record, _| record.cosigned = None,
        |record, _| record.cosigned = Some(tree(79, 1)),
        |record, _| record.cosigned = Some(tree(80, 2)),
    ];
    for change in back {
        let refused = marker.update(|record| change(record, vote));
        assert!(matches!(refused, Err(MarkerError::Back(_))));
        assert_eq!(marker.read(), full());
        assert_eq!(Marker::peek(dir.path()).unwrap(), full());
    }
    marker
        .update(|record| record.cosigned = Some(tree(81, 2)))
        .unwrap();
}

#[test]
fn a_candidate_that_lost_follows_the_leader_of_its_term_and_votes_for_nobody_else() {
    let vote = |term, node, committed| {
        Some(MarkedVote {
            term,
            node,
            committed,
        })
    };
    let own = vote(3, 2, false);
    for leader in [1, 2, 3] {
        assert!(keeps_vote(own, vote(3, leader, true)), "{leader}");
        assert!(keeps_vote(vote(3, leader, true), vote(4, 1, false)));
        assert!(!keeps_vote(vote(3, leader, true), own), "{leader}");
    }
    assert!(!keeps_vote(own, vote(3, 1, false)) && !keeps_vote(own, vote(3, 3, false)));
    assert!(!keeps_vote(vote(3, 1, true), vote(3, 2, true)));
    assert!(!keeps_vote(own, vote(2, 3, true)) && !keeps_vote(own, None));
    assert!(keeps_vote(None, None) && keeps_vote(None, own));
}

#[test]
fn a_missing_or_damaged_marker_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = Marker::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("ledger-node init"), "{error}");
    let dir = file_with([&[0; SLOT_LEN], &[0; SLOT_LEN]]);
    let error = Marker::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("new node id"), "{error}");
    let mut later = encode(1, &full());
    later[11] = 4;
    let dir = file_with([&encode(2, &full()), &later]);
    assert!(matches!(
        Marker::open(dir.path()),
        Err(MarkerError::Version(4))
    ));
}

#[test]
fn a_store_that_has_forgotten_is_told_from_one_that_has_not() {
    let marker = full();
    let same = Recovered {
        vote: marker.vote,
        last_log: marker.committed,
        tree: RecoveredTree {
            size: TreeSize(80),
            root_at_cosigned: marker.cosigned.map(|tree| tree.root),
        },
    };
    assert_eq!(behind(&marker, &same), Ok(()));
    let later = Recovered {
        vote: Some(MarkedVote {
            term: 6,
            node: 1,
            committed: false,
        }),
        last_log: Some(MarkedLogId { term: 6, index: 80 }),
        ..same
    };
    assert_eq!(behind(&marker, &later), Ok(()));
    let old_vote = Recovered {
        vote: marker.vote.map(|vote| MarkedVote { term: 4, ..vote }),
        ..same
    };
    assert_eq!(behind(&marker, &old_vote), Err(Behind::Vote(5)));
    assert_eq!(
        behind(&marker, &Recovered { vote: None, ..same }),
        Err(Behind::Vote(5))
    );
    let short = Recovered {
        last_log: Some(MarkedLogId { term: 5, index: 89 }),
        ..same
    };
    assert_eq!(behind(&marker, &short), Err(Behind::Log(90)));
    let with_tree = |size, root_at_cosigned| Recovered {
        tree: RecoveredTree {
            size: TreeSize(size),
            root_at_cosigned,
        },
        ..same
    };
    assert_eq!(
        behind(&marker, &with_tree(79, None)),
        Err(Behind::Tree {
            cosigned: TreeSize(80),
            found: TreeSize(79)
        })
    );
    for root in [None, Some(Hash::from_bytes([9; 32]))] {
        let error = behind(&marker, &with_tree(90, root)).unwrap_err();
        assert_eq!(error, Behind::Root(TreeSize(80)));
        let text = error.to_string();
        assert!(text.contains("new node id") && text.contains("without --first"));
    }
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_old_record_or_the_new_one() {
    let old = full();
    let new = MarkerRecord {
        committed: Some(MarkedLogId { term: 6, index: 91 }),
        cosigned: Some(tree(81, 4)),
        ..old
    };
    let before = MarkerRecord {
        committed: Some(MarkedLogId { term: 4, index: 60 }),
        ..old
    };
    let (kept, overwritten, written) = (encode(7, &old), encode(6, &before), encode(8, &new));
    let path_dir = tempfile::tempdir().unwrap();
    let path = path_dir.path().join(MARKER_FILE);
    // Beyond the hash both slots are zeros: tearing there changes nothing.
    for at in 0..=RECORD_LEN + 33 {
        for (head, tail) in [(&written, &overwritten), (&overwritten, &written)] {
            let torn = [&head[..at], &tail[at..], &kept[..]].concat();
            std::fs::write(&path, torn).unwrap();
            let found = Marker::peek(path_dir.path()).unwrap();
            assert!(found == old || found == new, "torn at {at}: {found:?}");
            let whole = head == &written && at >= RECORD_LEN + 32;
            if whole {
                assert_eq!(found, new, "torn at {at}");
            }
        }
    }
}

/// Device, inode and birth.
type Identity = (u64, u64, u64);

fn record() -> impl Strategy<Value = MarkerRecord> {
    let vote = proptest::option::of((any::<u64>(), any::<u64>(), any::<bool>()));
    let log = proptest::option::of((any::<u64>(), any::<u64>()));
    let cosigned = proptest::option::of((any::<u64>(), any::<[u8; 32]>()));
    let instance = proptest::option::of(any::<([u8; 16], Identity, u64, Identity)>());
    let owner = any::<(u64, [u8; 32], [u8; 16])>();
    (owner, instance, vote, log, cosigned).prop_map(
        |((node_id, digest, store_id), instance, vote, log, cosigned)| MarkerRecord {
            node_id,
            genesis_digest: Hash::from_bytes(digest),
            store_id: StoreId::from_bytes(store_id),
            instance: instance.map(|(nonce, own, changed_at_ns, marker)| InstanceFile {
                nonce,
                file: file(own),
                changed_at_ns,
                marker: file(marker),
            }),
            vote: vote.map(|(term, node, committed)| MarkedVote {
                term,
                node,
                committed,
            }),
            committed: log.map(|(term, index)| MarkedLogId { term, index }),
            cosigned: cosigned.map(|(size, root)| MarkedTree {
                size: TreeSize(size),
                root: Hash::from_bytes(root),
            }),
        },
    )
}

proptest! {
    #[test]
    fn slots_round_trip(sequence in any::<u64>(), record in record()) {
        let decoded = decode(&encode(sequence, &record));
        let same = matches!(decoded, Some(Decoded::Record(s, r)) if s == sequence && *r == record);
        prop_assert!(same);
    }

    #[test]
    fn a_flipped_bit_is_never_read_as_a_record(
        record in record(), at in 0..RECORD_LEN + 32, bit in 0..8_u32,
    ) {
        let mut slot = encode(1, &record);
        slot[at] ^= 1 << bit;
        let accepted = matches!(decode(&slot), Some(Decoded::Record(..)));
        prop_assert!(!accepted);
    }

    #[test]
    fn any_bytes_are_read_without_panicking(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut slot = [0; SLOT_LEN];
        slot[..bytes.len()].copy_from_slice(&bytes);
        let accepted = matches!(decode(&slot), Some(Decoded::Record(..)));
        prop_assert!(!accepted);
    }
}
