//! Signed notes: text with signatures by named keys (C2SP signed-note).
//!
//! Nothing in the text means anything before [`Note::open`] has checked it against keys that the verifier already has.

use std::fmt;

use thiserror::Error;

use super::cosignature::{CosignatureTime, cosignature_message, split_timestamped};
use super::text::{from_base64, to_base64};
use super::vkey::{KeyType, NoteKeyId, VerifierKey, VkeyError, is_key_name, key_id};
use crate::signer::Signer;

/// The longest note. A hundred ML-DSA signatures of others, which are kept though not verified, fit.
pub const MAX_NOTE_LEN: usize = 512 * 1024;
/// The most signature lines of a note.
pub const MAX_NOTE_SIGNATURES: usize = 100;

/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// Bytes of the key id before the signature proper.
const KEY_ID_LEN: usize = 4;

/// A note as text and signatures, none of them checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: NoteKeyId,
    signature: Vec<u8>,
}

/// A signature of a note that one of the verifier's keys confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSignature<'k> {
    /// The key, from the verifier's own list.
    pub key: &'k VerifierKey,
    /// When the cosigner signed; `None` for plain signatures, which have no time.
    pub time: Option<CosignatureTime>,
}

/// A note with at least one confirmed signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedNote<'n, 'k> {
    /// The signed text, including its final newline.
    pub text: &'n str,
    /// At most one per key, the first in the note.
    pub verified: Vec<VerifiedSignature<'k>>,
    /// Signatures by unknown keys, identical repetitions left out. They mean nothing.
    pub unverified: Vec<&'n NoteSignature>,
}

impl Note {
    /// A note without signatures yet.
    ///
    /// # Errors
    /// [`NoteError::Text`] unless the text ends in a newline and has no other control characters, [`NoteError::Length`].
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// Reads a note: text, an empty line, and one signature line or more. Printing gives back the same bytes.
    ///
    /// # Errors
    /// [`NoteError`] if the bytes are not such a note or exceed a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_LEN {
            return Err(NoteError::Length);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        let (head, lines) = whole.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        if lines.split('\n').count() > MAX_NOTE_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let signatures = lines
            .split('\n')
            .map(NoteSignature::parse)
            .collect::<Result<_, _>>()?;
        let mut note = Self::new(format!("{head}\n"))?;
        note.signatures = signatures;
        Ok(note)
    }

    /// The text that the signatures cover, including its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines in their order, unchecked.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Appends a signature line, which may come from someone else.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`] or [`NoteError::Length`] at the limits; the note is then unchanged.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_NOTE_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        if self.to_string().len() > MAX_NOTE_LEN {
            self.signatures.pop();
            return Err(NoteError::Length);
        }
        Ok(())
    }

    /// Checks the signatures against the verifier's keys.
    ///
    /// Signatures by other keys are ignored. Every signature by a known key is checked, repeated ones too.
    ///
    /// # Errors
    /// [`NoteError::InvalidSignature`] if a known key did not make what bears its name and id,
    /// [`NoteError::AmbiguousKey`] if two of the keys share the name and id of a signature,
    /// [`NoteError::Unverified`] if no signature is by a known key.
    pub fn open<'k>(&self, keys: &[&'k VerifierKey]) -> Result<OpenedNote<'_, 'k>, NoteError> {
        let mut verified: Vec<VerifiedSignature<'k>> = Vec::new();
        let mut unverified: Vec<&NoteSignature> = Vec::new();
        for signature in &self.signatures {
            let mut known = keys.iter().copied().filter(|key| signature.is_by(key));
            let Some(key) = known.next() else {
                if !unverified.contains(&signature) {
                    unverified.push(signature);
                }
                continue;
            };
            if known.next().is_some() {
                return Err(NoteError::AmbiguousKey(signature.key_name()));
            }
            let time = signature.check(key, &self.text)?;
            if !verified.iter().any(|earlier| earlier.key == key) {
                verified.push(VerifiedSignature { key, time });
            }
        }
        if verified.is_empty() {
            return Err(NoteError::Unverified);
        }
        Ok(OpenedNote {
            text: &self.text,
            verified,
            unverified,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl NoteSignature {
    /// Signs a note's text with an Ed25519 key (C2SP signed-note, "Ed25519 signatures").
    ///
    /// # Errors
    /// [`NoteError::Text`] for a text that no note can have, [`NoteError::Key`] for a name that no note can carry.
    pub fn sign(text: &str, name: &str, signer: &dyn Signer) -> Result<Self, NoteError> {
        check_text(text)?;
        Self::by(
            name,
            KeyType::Ed25519,
            signer,
            signer.sign(text.as_bytes()).to_vec(),
        )
    }

    /// The line that says `signer` made this signature.
    pub(super) fn by(
        name: &str,
        key_type: KeyType,
        signer: &dyn Signer,
        signature: Vec<u8>,
    ) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(VkeyError::Name.into());
        }
        let key_id = key_id(name, key_type, &signer.public_key());
        Ok(Self {
            name: name.to_owned(),
            key_id,
            signature,
        })
    }

    /// Reads one line, without its newline: `— <name> <base64(key id || signature)>`.
    ///
    /// # Errors
    /// [`NoteError::SignatureLine`] for anything else.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let parse = || {
            let (name, blob) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
            let blob = from_base64(blob)?;
            let (key_id, signature) = blob.split_first_chunk::<KEY_ID_LEN>()?;
            if !is_key_name(name) || signature.is_empty() {
                return None;
            }
            let key_id = NoteKeyId(u32::from_be_bytes(*key_id));
            Some(Self {
                name: name.to_owned(),
                key_id,
                signature: signature.to_vec(),
            })
        };
        parse().ok_or(NoteError::SignatureLine)
    }

    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that is said to have signed.
    #[must_use]
    pub const fn key_id(&self) -> NoteKeyId {
        self.key_id
    }

    /// The signature's bytes after the key id, unchecked.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Name and id, for messages.
    fn key_name(&self) -> String {
        format!("{}+{}", self.name, self.key_id)
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.key_id == key.id()
    }

    /// Checks the signature over the text, strictly, and returns its time if its type has one.
    fn check(&self, key: &VerifierKey, text: &str) -> Result<Option<CosignatureTime>, NoteError> {
        let (time, signature, message) = match key.key_type() {
            KeyType::Ed25519 => (None, self.signature.as_slice(), text.as_bytes().to_vec()),
            KeyType::CosignatureV1 => {
                let (time, signature) = split_timestamped(&self.signature)
                    .ok_or_else(|| NoteError::InvalidSignature(self.key_name()))?;
                (Some(time), signature, cosignature_message(time, text))
            }
        };
        if key.public_key().verify(&message, signature) {
            Ok(time)
        } else {
            Err(NoteError::InvalidSignature(self.key_name()))
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&self.key_id.0.to_be_bytes()[..], &self.signature].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, to_base64(&blob))
    }
}

/// A note's text ends in a newline and has no other ASCII control characters (those below U+0020).
fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_LEN {
        return Err(NoteError::Length);
    }
    let printable = |c: char| c == '\n' || c >= ' ';
    if text.ends_with('\n') && text.chars().all(printable) {
        Ok(())
    } else {
        Err(NoteError::Text)
    }
}

/// Why bytes are not a note, or a note is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Above [`MAX_NOTE_LEN`].
    #[error("a note has at most {MAX_NOTE_LEN} bytes")]
    Length,
    /// Not UTF-8, a control character, or no final newline.
    #[error("a note is UTF-8 text that ends in a newline and has no other control characters")]
    Text,
    /// No empty line followed by signature lines.
    #[error("the note has no signatures after an empty line, or does not end in a newline")]
    NoSignatures,
    /// Above [`MAX_NOTE_SIGNATURES`].
    #[error("a note has at most {MAX_NOTE_SIGNATURES} signatures")]
    TooManySignatures,
    /// Not a signature line.
    #[error(
        "not a signature line; write an em dash, the key name and base64, separated by single spaces"
    )]
    SignatureLine,
    /// The key cannot sign notes.
    #[error(transparent)]
    Key(#[from] VkeyError),
    /// The signature bears a known key's name and id, and is not by it.
    #[error("the signature by {0} is invalid")]
    InvalidSignature(String),
    /// Two known keys share this name and id.
    #[error("two known keys are called {0}; remove one")]
    AmbiguousKey(String),
    /// No known key has signed.
    #[error("the note has no signature by a known key")]
    Unverified,
}
