//! Go's `golang.org/x/mod/sumdb`: notes, verifier keys, tile paths and tree heads.

use ed25519_dalek::SigningKey;
use ledger_core::hash::TreeHash;
use ledger_core::note::checkpoint::{Checkpoint, CheckpointError};
use ledger_core::note::signed_note::{MAX_NOTE_SIGNATURES, Note, NoteError, NoteSignature};
use ledger_core::note::vkey::VerifierKey;
use ledger_core::tree::tile::{TILE_WIDTH, Tile};
use serde::Deserialize;

use super::{from_base64, read_json};

#[derive(Deserialize)]
struct Open {
    name: String,
    note: Option<String>,
    note_b64: Option<String>,
    keys: Vec<String>,
    expect: String,
    #[serde(default)]
    verified: Vec<String>,
    #[serde(default)]
    unverified: Vec<String>,
}

/// What Go calls the outcome, and the keys whose signatures it reports.
fn open(bytes: &[u8], keys: &[VerifierKey]) -> (String, Vec<String>, Vec<String>) {
    let keys: Vec<&VerifierKey> = keys.iter().collect();
    let Ok(note) = Note::parse(bytes) else {
        return ("malformed note".to_owned(), Vec::new(), Vec::new());
    };
    match note.open(&keys) {
        Ok(opened) => {
            let verified = opened
                .verified
                .iter()
                .map(|by| format!("{}+{}", by.key.name(), by.key.id()));
            let unverified = opened
                .unverified
                .iter()
                .map(|by| format!("{}+{}", by.name(), by.key_id()));
            ("ok".to_owned(), verified.collect(), unverified.collect())
        }
        Err(NoteError::Unverified) => (
            "note has no verifiable signatures".to_owned(),
            Vec::new(),
            Vec::new(),
        ),
        Err(NoteError::AmbiguousKey(key)) => {
            (format!("ambiguous key {key}"), Vec::new(), Vec::new())
        }
        Err(NoteError::InvalidSignature(key)) => (
            format!("invalid signature for key {key}"),
            Vec::new(),
            Vec::new(),
        ),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn notes_open_as_in_go() {
    let Some(cases) = read_json::<Vec<Open>>("go-x-mod-sumdb/note-open.json") else {
        return;
    };
    let mut opened = 0;
    for case in &cases {
        let bytes = match (&case.note, &case.note_b64) {
            (_, Some(encoded)) => from_base64(encoded),
            (Some(note), None) => note.clone().into_bytes(),
            (None, None) => panic!("{}: no note", case.name),
        };
        let keys: Vec<VerifierKey> = case
            .keys
            .iter()
            .map(|key| VerifierKey::parse(key).unwrap())
            .collect();
        let unverified: Vec<String> = case
            .unverified
            .iter()
            .map(|name| name.trim_end_matches(" (altered)").to_owned())
            .collect();
        let expected = (case.expect.clone(), case.verified.clone(), unverified);
        assert_eq!(open(&bytes, &keys), expected, "{}", case.name);
        if case.expect == "ok" {
            opened += 1;
            assert_eq!(
                Note::parse(&bytes).unwrap().to_string().into_bytes(),
                bytes,
                "{}",
                case.name
            );
        }
    }
    assert_eq!((cases.len(), opened, MAX_NOTE_SIGNATURES), (15, 4, 100));
}

#[derive(Deserialize)]
struct Sign {
    skey: String,
    vkey: String,
    text: String,
    want: String,
    bad_vkeys: Vec<String>,
}

#[test]
fn a_note_is_signed_as_in_go() {
    let Some(case) = read_json::<Sign>("go-x-mod-sumdb/note-sign.json") else {
        return;
    };
    let key = VerifierKey::parse(&case.vkey).unwrap();
    assert_eq!(key.to_string(), case.vkey);
    // PRIVATE+KEY+<name>+<key id>+<base64 of type and seed>
    let blob = from_base64(case.skey.splitn(5, '+').nth(4).unwrap());
    let (type_byte, seed) = blob.split_first().unwrap();
    assert_eq!(*type_byte, key.key_type().byte());
    let signer = SigningKey::from_bytes(seed.try_into().unwrap());
    assert_eq!(
        signer.verifying_key().as_bytes(),
        key.public_key().as_bytes()
    );
    let mut note = Note::new(case.text.clone()).unwrap();
    note.add(NoteSignature::sign(&case.text, key.name(), &signer).unwrap())
        .unwrap();
    assert_eq!(note.to_string(), case.want);
    assert_eq!(case.bad_vkeys.len(), 2);
    for bad in &case.bad_vkeys {
        assert!(VerifierKey::parse(bad).is_err(), "{bad}");
    }
    let mut parts = 0;
    for start in 0..case.vkey.len() {
        for end in start..=case.vkey.len() {
            let part = &case.vkey[start..end];
            assert_eq!(
                VerifierKey::parse(part).is_ok(),
                part == case.vkey,
                "{part}"
            );
            parts += 1;
        }
        let mut altered = case.vkey.clone().into_bytes();
        altered[start] += 1;
        assert!(VerifierKey::parse(std::str::from_utf8(&altered).unwrap()).is_err());
    }
    assert_eq!(parts, 2_277);
}

#[derive(Deserialize)]
struct TilePaths {
    cases: Vec<TilePath>,
}

#[derive(Deserialize)]
struct TilePath {
    path: String,
    tile: Option<(u32, i64, u64, u16)>,
}

#[test]
fn tile_paths_read_as_in_go() {
    let Some(vectors) = read_json::<TilePaths>("go-x-mod-sumdb/tile-paths.json") else {
        return;
    };
    let (mut read, mut refused) = (0, 0);
    for case in &vectors.cases {
        // Go names the height of its tiles, which tlog-tiles fixes at 8: tile/<H>/<L>/<N>.
        let (height, rest) = case
            .path
            .strip_prefix("tile/")
            .unwrap()
            .split_once('/')
            .unwrap();
        let ours = format!("tile/{rest}");
        match case.tile {
            // Level -1 is Go's path of entries, which are no hashes.
            Some((tile_height, level @ 0.., index, width)) => {
                assert_eq!(height, tile_height.to_string());
                let width = if width == 1 << tile_height {
                    TILE_WIDTH
                } else {
                    width
                };
                let tile = Tile::new(u8::try_from(level).unwrap(), index, width).unwrap();
                assert_eq!(Tile::parse(&ours), Ok(tile));
                assert_eq!(tile.path(), ours);
                read += 1;
            }
            _ => {
                assert!(Tile::parse(&ours).is_err(), "{ours}");
                refused += 1;
            }
        }
    }
    assert_eq!((read, refused), (5, 3));
}

#[derive(Deserialize)]
struct TreeHead {
    good: String,
    record_of_root: String,
    bad: Vec<String>,
    ok_with_suffix: Vec<String>,
}

#[test]
fn tree_heads_read_as_in_go() {
    let Some(case) = read_json::<TreeHead>("go-x-mod-sumdb/tree-head.json") else {
        return;
    };
    let good = Checkpoint::parse(&case.good).unwrap();
    assert_eq!(good.to_string(), case.good);
    assert_eq!(good.origin(), "go.sum database tree");
    assert_eq!(
        good.root(),
        TreeHash::Sha256.leaf(case.record_of_root.as_bytes())
    );
    let bad: Vec<_> = case
        .bad
        .iter()
        .map(|text| Checkpoint::parse(text))
        .collect();
    assert_eq!(bad.len(), 3);
    // Go demands its own origin; here the trust policy does.
    assert!(
        bad[0]
            .as_ref()
            .is_ok_and(|other| other.origin() != good.origin())
    );
    assert_eq!(bad[1], Err(CheckpointError::Size));
    assert_eq!(bad[2], Err(CheckpointError::Root));
    // Go ignores what follows, even a line that does not end, which no note can have.
    let suffixes: Vec<_> = case
        .ok_with_suffix
        .iter()
        .map(|suffix| (suffix, format!("{}{suffix}", case.good)))
        .collect();
    assert_eq!(suffixes.len(), 3);
    for (suffix, text) in suffixes {
        let read = Checkpoint::parse(&text);
        if suffix.ends_with('\n') {
            let lines = suffix.lines().count();
            assert_eq!(
                read.map(|checkpoint| checkpoint.extensions().count()),
                Ok(lines)
            );
        } else {
            assert_eq!(read, Err(CheckpointError::Extensions));
        }
    }
}
