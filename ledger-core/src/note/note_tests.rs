//! Notes and cosignatures: bytes, rules, limits, and what must never be believed.

use proptest::prelude::*;

use super::checkpoint::Checkpoint;
use super::cosignature::{CosignatureTime, TimeOutOfRange, cosignature_message};
use super::signed_note::{MAX_NOTE_LEN, MAX_NOTE_SIGNATURES, Note, NoteError, NoteSignature};
use super::test_keys::{LOG, cosigned, log_key, signing_key, time, witness_key, witness_name};
use super::vkey::{KeyType, VerifierKey, VkeyError};
use crate::hash::{Hash, TreeSize};

const TEXT: &str = "first\n\nlast\n";

/// A checkpoint signed by the log (seed 1) and cosigned by the witness of seed 2, byte by byte.
const GOLDEN: &str = "ledger.example.com/test
5
BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=

— ledger.example.com/test AqQbsDW0eCrxDRpsrKr0c/htBWG34sq9I34T7slYxIz7cFHPSH9uzD3ADh869DPdEQhPC3zq6SLCbcCvXmEmiuctuAA=
— witness.example.com/2 nTUrFwAAAABlU/EAeBzVThTwdu8cUjIcrCz3J+vwzC+SsKWh98FTHSpAfUK6pTv66uHaqy9oPAu+8cCFjmJBgZ0hWHeY3SKp3/ceAA==
";

fn checkpoint() -> Checkpoint {
    Checkpoint::new(LOG, TreeSize(5), Hash::from_bytes([7; 32])).unwrap()
}

fn cosigned_note() -> Note {
    let checkpoint = checkpoint();
    let mut note = checkpoint.sign(&signing_key(1)).unwrap();
    note.add(cosigned(&checkpoint, 2, 1_700_000_000)).unwrap();
    note
}

fn signed(text: &str, seeds: &[u8]) -> Note {
    let mut note = Note::new(text).unwrap();
    for seed in seeds {
        note.add(NoteSignature::sign(text, LOG, &signing_key(*seed)).unwrap())
            .unwrap();
    }
    note
}

fn opens(note: &Note, keys: &[&VerifierKey]) -> Result<usize, NoteError> {
    note.open(keys).map(|opened| opened.verified.len())
}

fn parse(text: &str) -> Result<Note, NoteError> {
    Note::parse(text.as_bytes())
}

#[test]
fn bytes_are_pinned() {
    assert_eq!(cosigned_note().to_string(), GOLDEN);
    assert_eq!(parse(GOLDEN), Ok(cosigned_note()));
    let message = cosignature_message(time(1_700_000_000), "origin\n1\nroot\n");
    assert_eq!(
        message,
        b"cosignature/v1\ntime 1700000000\norigin\n1\nroot\n"
    );
}

#[test]
fn a_note_opens_for_those_who_know_a_key() {
    let note = cosigned_note();
    let (log, witness, stranger) = (log_key(LOG, 1), witness_key(2), log_key("stranger", 3));
    let opened = note.open(&[&log, &witness]).unwrap();
    assert_eq!(opened.text, checkpoint().to_string());
    let times: Vec<_> = opened
        .verified
        .iter()
        .map(|by| (by.key.name(), by.time))
        .collect();
    assert_eq!(
        times,
        [(LOG, None), (&*witness_name(2), Some(time(1_700_000_000)))]
    );
    assert!(opened.unverified.is_empty());
    let opened = note.open(&[&log]).unwrap();
    assert_eq!((opened.verified.len(), opened.unverified.len()), (1, 1));
    assert_eq!(note.open(&[&stranger]), Err(NoteError::Unverified));
    assert_eq!(note.open(&[]), Err(NoteError::Unverified));
}

#[test]
fn the_text_ends_at_the_last_empty_line() {
    let note = signed(TEXT, &[1]);
    assert_eq!(parse(&note.to_string()).unwrap().text(), TEXT);
    assert_eq!(
        opens(&parse(&note.to_string()).unwrap(), &[&log_key(LOG, 1)]),
        Ok(1)
    );
    assert_eq!(parse(&signed("\n", &[1]).to_string()).unwrap().text(), "\n");
}

#[test]
fn name_and_id_must_both_match_a_key() {
    let note = signed(TEXT, &[1]);
    assert_eq!(
        opens(&note, &[&log_key("other.example.com", 1)]),
        Err(NoteError::Unverified)
    );
    assert_eq!(
        opens(&note, &[&log_key(LOG, 2)]),
        Err(NoteError::Unverified)
    );
    let as_witness = VerifierKey::new(LOG, KeyType::CosignatureV1, *log_key(LOG, 1).public_key());
    assert_eq!(
        opens(&note, &[&as_witness.unwrap()]),
        Err(NoteError::Unverified)
    );
}

#[test]
fn one_bad_signature_by_a_known_key_rejects_the_note() {
    let good = NoteSignature::sign(TEXT, LOG, &signing_key(1)).unwrap();
    let bad = NoteSignature::sign("another\n", LOG, &signing_key(1)).unwrap();
    let (first, second) = (log_key(LOG, 1), log_key(LOG, 2));
    let invalid = Err(NoteError::InvalidSignature(format!("{LOG}+{}", first.id())));
    for order in [[&good, &bad], [&bad, &good]] {
        let mut note = signed(TEXT, &[2]);
        order
            .into_iter()
            .for_each(|signature| note.add(signature.clone()).unwrap());
        assert_eq!(opens(&note, &[&first, &second]), invalid);
        assert_eq!(opens(&note, &[&second]), Ok(1), "unknown keys are ignored");
    }
}

#[test]
fn repetitions_count_once() {
    let note = signed(TEXT, &[1, 1, 2, 2]);
    let opened_by = log_key(LOG, 1);
    let opened = note
        .open(&[&opened_by])
        .map(|opened| (opened.verified.len(), opened.unverified.len()));
    assert_eq!(opened, Ok((1, 1)));
}

#[test]
fn a_key_known_twice_is_ambiguous_only_if_it_signed() {
    let (first, second) = (log_key(LOG, 1), log_key(LOG, 2));
    let note = signed(TEXT, &[2]);
    assert_eq!(opens(&note, &[&first, &second, &first]), Ok(1));
    let ambiguous = NoteError::AmbiguousKey(format!("{LOG}+{}", second.id()));
    assert_eq!(opens(&note, &[&second, &first, &second]), Err(ambiguous));
}

#[test]
fn broken_notes_are_refused() {
    let note = signed("text\n", &[1]).to_string();
    let line = note.lines().last().unwrap();
    for (broken, expected) in [
        ("", NoteError::NoSignatures),
        ("text\n", NoteError::NoSignatures),
        ("text\n\n", NoteError::NoSignatures),
        (note.trim_end(), NoteError::NoSignatures),
        (&*format!("text\n{line}\n"), NoteError::NoSignatures),
        (&*note.replace("text", "te\u{1}xt"), NoteError::Text),
        (&*note.replace("text", "te\txt"), NoteError::Text),
        (&*note.replace("text\n", "text\r\n"), NoteError::Text),
        (&*format!("{note}unexpected\n"), NoteError::SignatureLine),
        (&*format!("{note}{line} \n"), NoteError::SignatureLine),
        (&*note.replace('\u{2014}', "-"), NoteError::SignatureLine),
        (&*note.replace(LOG, "two names"), NoteError::SignatureLine),
        (&*note.replace(LOG, "a+b"), NoteError::SignatureLine),
        (&*note.replace(LOG, "a\u{a0}b"), NoteError::SignatureLine),
        (&*note.replace(LOG, ""), NoteError::SignatureLine),
        ("text\n\n\u{2014} name AAAAAA==\n", NoteError::SignatureLine),
        (
            "text\n\n\u{2014} name AAAAAAAB\n\u{2014} name !\n",
            NoteError::SignatureLine,
        ),
    ] {
        assert_eq!(parse(broken), Err(expected), "{broken:?}");
    }
    assert_eq!(
        Note::parse(&[b"\xff", note.as_bytes()].concat()),
        Err(NoteError::Text)
    );
    assert!(
        parse("text\n\n\u{2014} name AAAAAAA=\n").is_ok(),
        "five bytes are a signature"
    );
}

#[test]
fn notes_that_cannot_be_written_are_refused() {
    for text in ["", "no newline", "tab\t\n", "return\r\n"] {
        assert_eq!(Note::new(text), Err(NoteError::Text), "{text:?}");
        assert_eq!(
            NoteSignature::sign(text, LOG, &signing_key(1)),
            Err(NoteError::Text)
        );
    }
    let sign = |name| NoteSignature::sign("text\n", name, &signing_key(1));
    for name in ["", "a b", "a+b", "a\nb"] {
        assert_eq!(sign(name), Err(NoteError::Key(VkeyError::Name)), "{name:?}");
    }
}

#[test]
fn limits_are_errors_one_past_them() {
    let mut note = signed("text\n", &[1; MAX_NOTE_SIGNATURES]);
    assert_eq!(parse(&note.to_string()), Ok(note.clone()));
    let one_more = note.signatures()[0].clone();
    let too_many = format!("{note}{one_more}\n");
    assert_eq!(note.add(one_more), Err(NoteError::TooManySignatures));
    assert_eq!(parse(&too_many), Err(NoteError::TooManySignatures));

    let signature = signed("text\n", &[1]).to_string().len() - "text\n".len();
    let longest = format!("{}\n", "x".repeat(MAX_NOTE_LEN - signature - 1));
    let note = signed(&longest, &[1]).to_string();
    assert_eq!(note.len(), MAX_NOTE_LEN);
    assert!(parse(&note).is_ok());
    assert_eq!(parse(&format!("x{note}")), Err(NoteError::Length));
    let mut longer = Note::new(format!("x{longest}")).unwrap();
    let line = NoteSignature::sign("text\n", LOG, &signing_key(1)).unwrap();
    assert_eq!(longer.add(line), Err(NoteError::Length));
    assert!(longer.signatures().is_empty());
}

#[test]
fn the_time_of_a_cosignature_is_signed_and_bounded() {
    let note = cosigned_note().to_string();
    let line = note.lines().last().unwrap().to_owned();
    let witness = witness_key(2);
    let other_time = cosigned(&checkpoint(), 2, 1_700_000_001).to_string();
    let (name, blob) = other_time.rsplit_once(' ').unwrap();
    let (_, original) = line.rsplit_once(' ').unwrap();
    // The first 16 characters hold the key id and the time, whose last bits are in the 16th.
    let forged = format!("{name} {}{}", &blob[..16], &original[16..]);
    let forged = parse(&note.replace(&line, &forged)).unwrap();
    assert!(matches!(
        forged.open(&[&witness]),
        Err(NoteError::InvalidSignature(_))
    ));
    assert!(CosignatureTime::from_seconds((1 << 63) - 1).is_ok());
    assert_eq!(CosignatureTime::from_seconds(1 << 63), Err(TimeOutOfRange));
}

#[test]
fn a_plain_signature_is_no_cosignature() {
    let text = checkpoint().to_string();
    let plain = NoteSignature::sign(&text, &witness_name(2), &signing_key(2)).unwrap();
    // The same bytes under the id of the cosignature key.
    let id = witness_key(2).id().0.to_be_bytes();
    let blob = plain.to_string();
    let (name, blob) = blob.rsplit_once(' ').unwrap();
    let mut bytes = super::text::from_base64(blob).unwrap();
    bytes[..4].copy_from_slice(&id);
    let line = NoteSignature::parse(&format!("{name} {}", super::text::to_base64(&bytes))).unwrap();
    let mut note = Note::new(text).unwrap();
    note.add(line).unwrap();
    assert!(matches!(
        note.open(&[&witness_key(2)]),
        Err(NoteError::InvalidSignature(_))
    ));
}

proptest! {
    #[test]
    fn no_flipped_bit_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        let (log, witness) = (log_key(LOG, 1), witness_key(2));
        // Whatever still parses has lost a signature: by its name, by its id or by not being valid.
        if let Ok(note) = Note::parse(&bytes)
            && let Ok(opened) = note.open(&[&log, &witness])
        {
            prop_assert_eq!(opened.verified.len(), 1);
        }
    }

    #[test]
    fn any_bytes_parse_without_panicking_and_print_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn almost_notes_parse_without_panicking_and_print_the_same(
        text in "[a\n\t]{0,4}", lines in prop::collection::vec("\u{2014} [a+ ]{0,3} ?(AAAAAAA=|AAAAAAAB|A)?", 0..3),
    ) {
        let bytes = format!("{text}\n\n{}\n", lines.join("\n"));
        if let Ok(note) = parse(&bytes) {
            prop_assert_eq!(note.to_string(), bytes);
        }
    }
}
