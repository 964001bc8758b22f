//! Checkpoints: the text of a note that states origin, size and root of a ledger (C2SP tlog-checkpoint).
//!
//! A `Checkpoint` is a statement, not a fact: only [`super::verify::verify_checkpoint`] says whether to believe it.

use std::fmt;

use thiserror::Error;

use super::signed_note::{Note, NoteError, NoteSignature};
use super::text::{from_decimal, hash_from_base64, to_base64};
use super::vkey::{MAX_KEY_NAME_LEN, is_key_name};
use crate::hash::{Hash, TreeHash, TreeSize};
use crate::signer::Signer;

/// The longest origin: it is also the log's key name.
pub const MAX_ORIGIN_LEN: usize = MAX_KEY_NAME_LEN;

/// Origin, size and root of a ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: TreeSize,
    root: Hash,
    /// Extension lines, each with its newline.
    extensions: String,
}

impl Checkpoint {
    /// A checkpoint of our own: no extension lines, and an origin that can also be the log's key name.
    ///
    /// # Errors
    /// [`CheckpointError::Origin`], [`CheckpointError::Size`] above [`TreeSize::MAX`].
    pub fn new(origin: &str, size: TreeSize, root: Hash) -> Result<Self, CheckpointError> {
        if origin.len() > MAX_ORIGIN_LEN || !is_key_name(origin) {
            return Err(CheckpointError::Origin);
        }
        if size > TreeSize::MAX {
            return Err(CheckpointError::Size);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            extensions: String::new(),
        })
    }

    /// Reads a note's text: origin, size, root, then extension lines. [`fmt::Display`] prints the same text.
    ///
    /// # Errors
    /// [`CheckpointError`] for anything else. Any origin that a line can hold is accepted, because others choose theirs.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.splitn(4, '\n');
        let (Some(origin), Some(size), Some(root), Some(extensions)) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        if origin.is_empty() || origin.len() > MAX_ORIGIN_LEN || origin.contains(|c| c < ' ') {
            return Err(CheckpointError::Origin);
        }
        let size = from_decimal(size)
            .map(TreeSize)
            .filter(|size| *size <= TreeSize::MAX);
        let size = size.ok_or(CheckpointError::Size)?;
        let root = hash_from_base64(root).ok_or(CheckpointError::Root)?;
        let ends = extensions.is_empty() || extensions.ends_with('\n');
        let gap = extensions.starts_with('\n') || extensions.contains("\n\n");
        if !ends || gap || extensions.contains(|c| c < ' ' && c != '\n') {
            return Err(CheckpointError::Extensions);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            extensions: extensions.to_owned(),
        })
    }

    /// Which ledger this is about.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many entries the ledger has.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The root of the tree of that size.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }

    /// The hash that the origin says the tree is made with.
    #[must_use]
    pub fn tree_hash(&self) -> TreeHash {
        TreeHash::of_origin(&self.origin)
    }

    /// The extension lines without their newlines: opaque, and usually none.
    pub fn extensions(&self) -> impl Iterator<Item = &str> {
        self.extensions.split_terminator('\n')
    }

    /// A note with the log's signature, under the origin as key name.
    ///
    /// # Errors
    /// [`NoteError`] if the origin cannot be a key name, which [`Checkpoint::new`] rules out.
    pub fn sign(&self, log: &dyn Signer) -> Result<Note, NoteError> {
        let text = self.to_string();
        let signature = NoteSignature::sign(&text, &self.origin, log)?;
        let mut note = Note::new(text)?;
        note.add(signature)?;
        Ok(note)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = to_base64(self.root.as_bytes());
        write!(
            f,
            "{}\n{}\n{root}\n{}",
            self.origin, self.size, self.extensions
        )
    }
}

/// Why text is not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// Fewer than three lines, or the third does not end.
    #[error("a checkpoint has a line for its origin, its size and its root")]
    Lines,
    /// The origin is empty, too long, or has characters that it must not have.
    #[error(
        "an origin has 1 to {MAX_ORIGIN_LEN} bytes and no control characters; ours also no spaces and no plus"
    )]
    Origin,
    /// Not a decimal number, leading zeros, or above [`TreeSize::MAX`].
    #[error("the tree size is not a decimal number below 2^63 without leading zeros")]
    Size,
    /// Not base64 of 32 bytes.
    #[error("the root hash is not the base64 of 32 bytes")]
    Root,
    /// An empty extension line, a control character, or the last one does not end.
    #[error("an extension line is empty, has control characters or does not end in a newline")]
    Extensions,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn parse(text: &str) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::parse(text)
    }

    #[test]
    fn the_example_of_the_specification_parses_and_prints() {
        let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n");
        let checkpoint = parse(&text).unwrap();
        assert_eq!(checkpoint.origin(), "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size(), TreeSize(20_852_163));
        assert!(
            checkpoint
                .root()
                .to_string()
                .starts_with("0ac5186a91863e8e")
        );
        assert_eq!(checkpoint.extensions().count(), 0);
        assert_eq!(checkpoint.to_string(), text);
        let same = Checkpoint::new(checkpoint.origin(), checkpoint.size(), checkpoint.root());
        assert_eq!(same, Ok(checkpoint));
    }

    #[test]
    fn extension_lines_are_kept() {
        let text = format!("o\n0\n{ROOT}\nfirst\nsecond line\n");
        let checkpoint = parse(&text).unwrap();
        assert_eq!(
            checkpoint.extensions().collect::<Vec<_>>(),
            ["first", "second line"]
        );
        assert_eq!(checkpoint.to_string(), text);
    }

    #[test]
    fn each_broken_line_is_named() {
        let with = |origin: &str, size: &str, root: &str, rest: &str| {
            parse(&format!("{origin}\n{size}\n{root}\n{rest}")).unwrap_err()
        };
        assert_eq!(parse(""), Err(CheckpointError::Lines));
        assert_eq!(parse(&format!("o\n1\n{ROOT}")), Err(CheckpointError::Lines));
        assert_eq!(with("", "1", ROOT, ""), CheckpointError::Origin);
        assert_eq!(with("a\tb", "1", ROOT, ""), CheckpointError::Origin);
        assert_eq!(
            with(&"o".repeat(MAX_ORIGIN_LEN + 1), "1", ROOT, ""),
            CheckpointError::Origin
        );
        for size in [
            "",
            "01",
            "-1",
            "+1",
            "1 ",
            "9223372036854775808",
            "18446744073709551616",
        ] {
            assert_eq!(with("o", size, ROOT, ""), CheckpointError::Size, "{size}");
        }
        for root in [
            "",
            "AA==",
            &ROOT[..43],
            &ROOT.replace("2I=", "2J="),
            &format!("{ROOT} "),
        ] {
            assert_eq!(with("o", "1", root, ""), CheckpointError::Root, "{root}");
        }
        for rest in ["\n", "a", "a\n\n", "a\n\nb\n", "\na\n", "a\r\n"] {
            assert_eq!(
                with("o", "1", ROOT, rest),
                CheckpointError::Extensions,
                "{rest:?}"
            );
        }
        assert!(
            parse(&format!(
                "{}\n9223372036854775807\n{ROOT}\n",
                "o".repeat(MAX_ORIGIN_LEN)
            ))
            .is_ok()
        );
    }

    #[test]
    fn our_own_origins_can_be_key_names() {
        let root = Hash::from_bytes([0; 32]);
        for origin in ["", "a b", "a+b", "a\n", &"o".repeat(MAX_ORIGIN_LEN + 1)] {
            assert_eq!(
                Checkpoint::new(origin, TreeSize(0), root),
                Err(CheckpointError::Origin)
            );
        }
        let beyond = TreeSize(TreeSize::MAX.0 + 1);
        assert_eq!(
            Checkpoint::new("o", beyond, root),
            Err(CheckpointError::Size)
        );
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[a-z\n ]{0,8}\n[0-9]{1,3}\n(CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=)?\n[a\n]{0,6}") {
            if let Ok(checkpoint) = parse(&text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }

        #[test]
        fn what_is_made_parses(origin in "[a-z./é]{1,30}", size in 0..=TreeSize::MAX.0, root in any::<[u8; 32]>()) {
            let made = Checkpoint::new(&origin, TreeSize(size), Hash::from_bytes(root)).unwrap();
            prop_assert_eq!(parse(&made.to_string()), Ok(made));
        }
    }
}
