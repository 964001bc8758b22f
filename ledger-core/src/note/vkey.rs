//! Verifier keys: a name, a signature type and a public key, in one line of text (C2SP signed-note, "Verifier keys").
//!
//! The name and the 32-bit key id together say which signatures of a note a key answers for. The id is short on purpose
//! and protects nothing: what protects is the public key itself, which the verifier has in its own configuration.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::text::{from_base64, to_base64};
use crate::keys::{KeyError, PublicKey};

/// The longest key name and the longest origin. ML-DSA cosignatures, a later step, hold no longer ones.
pub const MAX_KEY_NAME_LEN: usize = 255;
/// Bytes of a public key after its type byte.
const PUBLIC_KEY_LEN: usize = 32;
/// The longest text that is looked into. ML-DSA keys fit, so that they are refused for their type.
pub const MAX_VKEY_LEN: usize = 4096;

/// What a key signs (C2SP signed-note, "Signature types"). Other types are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// `0x01`: Ed25519 over the note's text. Logs sign with it.
    Ed25519,
    /// `0x04`: timestamped Ed25519 over a checkpoint (C2SP tlog-cosignature). Witnesses sign with it.
    CosignatureV1,
}

impl KeyType {
    /// The assigned signature type identifier byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

/// The 32-bit number that, with the key's name, marks a signature in a note. Not the ledger's own key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoteKeyId(pub u32);

impl fmt::Display for NoteKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A public key under a name, for one type of signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_type: KeyType,
    public_key: PublicKey,
    id: NoteKeyId,
}

impl VerifierKey {
    /// A verifier key.
    ///
    /// # Errors
    /// [`VkeyError::Name`] or [`VkeyError::NameLength`] for a name that no note can carry.
    pub fn new(name: &str, key_type: KeyType, public_key: PublicKey) -> Result<Self, VkeyError> {
        if name.len() > MAX_KEY_NAME_LEN {
            return Err(VkeyError::NameLength);
        }
        if !is_key_name(name) {
            return Err(VkeyError::Name);
        }
        let id = key_id(name, key_type, public_key.as_bytes());
        Ok(Self {
            name: name.to_owned(),
            key_type,
            public_key,
            id,
        })
    }

    /// Reads `<name>+<8 hex digits>+<base64(type || public key)>`, exactly as [`fmt::Display`] writes it.
    ///
    /// # Errors
    /// [`VkeyError`]: malformed text, an unsupported type, an id that does not follow from the rest, or a public key
    /// that is weak or not canonical.
    pub fn parse(text: &str) -> Result<Self, VkeyError> {
        if text.len() > MAX_VKEY_LEN {
            return Err(VkeyError::Malformed);
        }
        // Names and hex have no `+`, so that whatever follows the second one is the base64.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VkeyError::Malformed);
        };
        let blob = from_base64(key).ok_or(VkeyError::Malformed)?;
        let (type_byte, public_key) = blob.split_first().ok_or(VkeyError::Malformed)?;
        let key_type = [KeyType::Ed25519, KeyType::CosignatureV1]
            .into_iter()
            .find(|key_type| key_type.byte() == *type_byte)
            .ok_or(VkeyError::Type(*type_byte))?;
        let parsed = Self::new(name, key_type, PublicKey::from_bytes(public_key)?)?;
        if parsed.id.to_string() == id {
            Ok(parsed)
        } else {
            Err(VkeyError::Id)
        }
    }

    /// The key's name, which signature lines repeat.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key signs.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The public key itself.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The id that signature lines repeat.
    #[must_use]
    pub const fn id(&self) -> NoteKeyId {
        self.id
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = Vec::with_capacity(1 + PUBLIC_KEY_LEN);
        blob.push(self.key_type.byte());
        blob.extend_from_slice(self.public_key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, to_base64(&blob))
    }
}

/// Whether a note can carry this name: not empty, no Unicode space, no plus, no control character.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c == '+' || c < ' ';
    !name.is_empty() && !name.contains(bad)
}

/// `SHA-256(name || 0x0A || type || public key)[:4]`, whatever the ledger's tree hash is.
pub(super) fn key_id(
    name: &str,
    key_type: KeyType,
    public_key: &[u8; PUBLIC_KEY_LEN],
) -> NoteKeyId {
    let parts = [name.as_bytes(), b"\n", &[key_type.byte()], public_key];
    let digest = parts
        .into_iter()
        .fold(Sha256::new(), Sha256::chain_update)
        .finalize();
    NoteKeyId(
        digest
            .iter()
            .take(4)
            .fold(0, |id, byte| id << 8 | u32::from(*byte)),
    )
}

/// Why text is not a verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VkeyError {
    /// Not three parts, or the last is not base64.
    #[error("not a verifier key; write <name>+<8 hex digits>+<base64>")]
    Malformed,
    /// The name cannot stand in a note.
    #[error("a key name must not be empty or contain spaces, control characters or a plus")]
    Name,
    /// The name is too long.
    #[error("a key name has at most {MAX_KEY_NAME_LEN} bytes")]
    NameLength,
    /// A signature type that this implementation does not verify.
    #[error(
        "signature type {0:#04x} is not supported; use an Ed25519 key (0x01) or cosignature key (0x04)"
    )]
    Type(u8),
    /// The id is not the hash of the name and the key.
    #[error("the key id does not belong to this name and key")]
    Id,
    /// The public key is weak, or not the canonical encoding of a point.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    fn vkey(name: &str, id: u32, blob: &[u8]) -> String {
        format!("{name}+{id:08x}+{}", to_base64(blob))
    }

    #[test]
    fn the_example_of_the_specification_parses_and_prints() {
        let key = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(key.name(), "example.com/foo");
        assert_eq!(key.id(), NoteKeyId(0x530d_903a));
        assert_eq!(key.key_type(), KeyType::Ed25519);
        assert_eq!(key.to_string(), VKEY);
    }

    #[test]
    fn the_type_is_part_of_the_id() {
        let public_key = *VerifierKey::parse(VKEY).unwrap().public_key();
        let witness =
            VerifierKey::new("example.com/foo", KeyType::CosignatureV1, public_key).unwrap();
        assert_ne!(witness.id(), NoteKeyId(0x530d_903a));
        assert_eq!(VerifierKey::parse(&witness.to_string()), Ok(witness));
    }

    #[test]
    fn no_part_and_no_altered_byte_of_a_key_is_a_key() {
        for (start, end) in
            (0..VKEY.len()).flat_map(|start| (start..VKEY.len()).map(move |end| (start, end)))
        {
            assert!(VerifierKey::parse(&VKEY[start..end]).is_err());
        }
        for position in 0..VKEY.len() {
            let mut bytes = VKEY.as_bytes().to_vec();
            bytes[position] += 1;
            let altered = String::from_utf8(bytes).unwrap();
            assert!(VerifierKey::parse(&altered).is_err(), "{altered}");
        }
        assert_eq!(
            VerifierKey::parse(&VKEY.replace("530d903a", "530D903A")),
            Err(VkeyError::Id)
        );
        assert!(VerifierKey::parse(&format!("{VKEY}\n")).is_err());
    }

    #[test]
    fn weak_and_non_canonical_keys_are_refused_though_their_ids_are_right() {
        let mut identity = [0; 32];
        identity[0] = 1;
        // y = 2^255 - 17: the same point as y = 2, written past the prime 2^255 - 19.
        let mut past_prime = [0xff; 32];
        (past_prime[0], past_prime[31]) = (0xef, 0x7f);
        let off_curve = {
            let mut y = [0; 32];
            y[0] = 2;
            y
        };
        for (bytes, expected) in [
            (identity, KeyError::Weak),
            (past_prime, KeyError::Encoding),
            (off_curve, KeyError::Encoding),
        ] {
            let id = key_id("n", KeyType::Ed25519, &bytes);
            let text = vkey("n", id.0, &[&[1], &bytes[..]].concat());
            assert_eq!(VerifierKey::parse(&text), Err(expected.into()), "{text}");
        }
    }

    #[test]
    fn other_types_lengths_and_names_are_refused() {
        let public_key = VerifierKey::parse(VKEY).unwrap().public_key;
        let bytes = public_key.as_bytes();
        let parse = |name: &str, blob: &[u8]| VerifierKey::parse(&vkey(name, 0, blob));
        for other in [0_u8, 2, 3, 5, 6, 0xfa, 0xff] {
            assert_eq!(
                parse("n", &[&[other], &bytes[..]].concat()),
                Err(VkeyError::Type(other))
            );
        }
        assert_eq!(
            parse("n", &[&[1], &bytes[1..]].concat()),
            Err(KeyError::Encoding.into())
        );
        assert_eq!(
            parse("n", &[&[1], &bytes[..], &[0]].concat()),
            Err(VkeyError::Key(KeyError::Encoding))
        );
        assert_eq!(parse("n", &[]), Err(VkeyError::Malformed));
        let new =
            |name: &str| VerifierKey::new(name, KeyType::Ed25519, public_key).map(|key| key.name);
        for name in ["", "a b", "a+b", "a\u{a0}b", "a\u{3000}b", "a\nb", "a\u{1}"] {
            assert_eq!(new(name), Err(VkeyError::Name), "{name:?}");
        }
        assert!(new(&"n".repeat(MAX_KEY_NAME_LEN)).is_ok());
        assert_eq!(
            new(&"n".repeat(MAX_KEY_NAME_LEN + 1)),
            Err(VkeyError::NameLength)
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_without_panicking_and_prints_the_same(text in "\\PC{0,80}") {
            if let Ok(key) = VerifierKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
