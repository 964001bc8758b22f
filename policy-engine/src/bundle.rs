//! A bundle: what an author writes, packed into canonical bytes and named by their digest.

use std::fmt;

/// `BLAKE3` of a bundle's canonical bytes; the bundle's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleDigest(pub [u8; 32]);

impl fmt::Debug for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleDigest({self})")
    }
}

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whose past a bundle's rules read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HistoryScope {
    /// The agent's own, across its sessions.
    Agent,
    /// One session's.
    Session,
    /// Everything done on behalf of one subject.
    Subject,
    /// Everything done by agents of one owner.
    Owner,
    /// Everything done in the namespace.
    Namespace,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path inside the bundle, with `/` between folders.
    pub path: String,
    /// UTF-8 text.
    pub text: String,
}

/// A bundle whose files are all present and well-formed; not yet compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    name: String,
    history: HistoryScope,
    files: Vec<SourceFile>,
}
