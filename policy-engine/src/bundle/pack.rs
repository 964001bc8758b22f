//! The canonical bytes of a bundle, its digest, and the chunks it is published in.
//!
//! A count, then for each file its path and its content, each after its length; counts and lengths are 32 bits, big-endian,
//! and paths strictly ascend. So a set of files has one encoding, and whatever decodes encodes to the same bytes again.

use std::collections::BTreeMap;

use super::{Bundle, BundleDigest};
use crate::diagnostic::Diagnostic;
use crate::limits::{CHUNK_BYTES, MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES, MAX_PATH_BYTES};

const DIGEST_CONTEXT: &[u8] = b"countersign-bundle-v1\0";

impl Bundle {
    /// The canonical bytes, at most [`MAX_BUNDLE_BYTES`].
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_length(self.files().len(), &mut bytes);
        for file in self.files() {
            for part in [&file.path, &file.text] {
                push_length(part.len(), &mut bytes);
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        bytes
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// If they are not the one encoding of some files, or the files are no bundle (see [`Bundle::from_files`]).
    pub fn from_packed(bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let files = unpack(bytes).map_err(|message| {
            vec![Diagnostic::error(
                "bundle",
                message,
                "pack the bundle again",
            )]
        })?;
        Self::from_files(files)
    }

    /// The canonical bytes in pieces of [`CHUNK_BYTES`], the last one shorter.
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        self.pack()
            .chunks(CHUNK_BYTES)
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Reads a bundle from the pieces that [`Bundle::chunks`] made.
    ///
    /// # Errors
    /// As [`Bundle::from_packed`].
    pub fn from_chunks<'a>(
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut bytes = Vec::new();
        for chunk in chunks {
            bytes.extend_from_slice(chunk);
            if bytes.len() > MAX_BUNDLE_BYTES {
                break;
            }
        }
        Self::from_packed(&bytes)
    }

    /// The bundle's digest.
    pub fn digest(&self) -> BundleDigest {
        BundleDigest::of(&self.pack())
    }
}

impl BundleDigest {
    /// The digest of canonical bytes: `BLAKE3("countersign-bundle-v1\0" || bytes)`. Says nothing about whether they decode.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DIGEST_CONTEXT);
        hasher.update(bytes);
        Self(*hasher.finalize().as_bytes())
    }
}

/// How many bytes the files make when packed.
pub(super) fn size<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> usize {
    files.fold(4, |size, (path, bytes)| size + 8 + path.len() + bytes.len())
}

/// True if a path can be written to any file system below any folder: ASCII letters, digits, `.`, `_` and `-`, no part empty
/// or starting with a dot.
pub(super) fn is_valid_path(path: &str) -> bool {
    let is_valid_part = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed)
    };
    path.len() <= MAX_PATH_BYTES && path.split('/').all(is_valid_part)
}

/// A length past 32 bits cannot occur: bundles are limited to far less.
fn push_length(length: usize, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, &'static str> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err("the packed bundle is too large");
    }
    let mut rest = bytes;
    let count = take_length(&mut rest)?;
    if count > MAX_BUNDLE_FILES {
        return Err("the packed bundle has too many files");
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..count {
        let path = std::str::from_utf8(take(&mut rest)?)
            .ok()
            .filter(|path| is_valid_path(path))
            .ok_or("the packed bundle has an invalid path")?;
        if files
            .last_key_value()
            .is_some_and(|(last, _)| last.as_str() >= path)
        {
            return Err("the packed bundle's paths are out of order");
        }
        files.insert(path.to_owned(), take(&mut rest)?.to_vec());
    }
    if rest.is_empty() {
        Ok(files)
    } else {
        Err("bytes follow the packed bundle")
    }
}

fn take_length(rest: &mut &[u8]) -> Result<usize, &'static str> {
    let (length, after) = rest
        .split_first_chunk::<4>()
        .ok_or("the packed bundle is cut short")?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| "the packed bundle is too large")
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = take_length(rest)?;
    let (taken, after) = rest
        .split_at_checked(length)
        .ok_or("the packed bundle is cut short")?;
    *rest = after;
    Ok(taken)
}
