//! Bundles on disk: a directory becomes the map of paths to bytes that the pure engine takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use policy_engine::limits::{MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES};
use thiserror::Error;

/// Deepest folder inside a bundle.
const MAX_DEPTH: usize = 8;

/// Why a directory cannot be read as a bundle.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file or folder cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a plain file or folder.
    #[error("{0} is neither a file nor a folder; a bundle has no links and no devices")]
    Special(PathBuf),
    /// A path that is not UTF-8.
    #[error("{0} has a name that is not UTF-8; rename it")]
    Name(PathBuf),
    /// More or larger than a bundle can be.
    #[error(
        "{0} holds more than a bundle can: {MAX_BUNDLE_FILES} files, {MAX_BUNDLE_BYTES} bytes, {MAX_DEPTH} folders deep"
    )]
    TooMuch(PathBuf),
}

/// The files under a directory, by path with `/` between folders. Hidden files are left out, as editors leave them behind.
///
/// # Errors
/// [`ReadError`]
pub fn read(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, ReadError> {
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    let mut folders = vec![(directory.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(ReadError::TooMuch(directory.to_owned()));
        }
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| ReadError::Unreadable { path, source }
        };
        for item in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let item = item.map_err(unreadable(&folder))?;
            let path = item.path();
            let name = item
                .file_name()
                .into_string()
                .map_err(|_| ReadError::Name(path.clone()))?;
            if name.starts_with('.') {
                continue;
            }
            let kind = item.file_type().map_err(unreadable(&path))?;
            let inside = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push((path, format!("{inside}/"), depth + 1));
            } else if kind.is_file() {
                let length = item.metadata().map_err(unreadable(&path))?.len();
                bytes += usize::try_from(length).unwrap_or(usize::MAX);
                if bytes > MAX_BUNDLE_BYTES || files.len() >= MAX_BUNDLE_FILES {
                    return Err(ReadError::TooMuch(directory.to_owned()));
                }
                files.insert(inside, fs::read(&path).map_err(unreadable(&path))?);
            } else {
                return Err(ReadError::Special(path));
            }
        }
    }
    Ok(files)
}
