//! Files that are there as a whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Configuration`] if it cannot be read or is longer.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let shown = path.display();
    let failed =
        |error: io::Error| Error::Configuration(format!("{shown} cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(Error::Configuration(format!(
            "{shown} is longer than {limit} bytes"
        )));
    }
    Ok(bytes)
}

/// Writes a new file, durably; what exists is not touched.
///
/// # Errors
/// [`Error::Configuration`] if it exists, [`Error::Internal`] if it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let shown = path.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                Error::Configuration(format!(
                    "{shown} exists already and is not overwritten; choose another name"
                ))
            } else {
                Error::Internal(format!("{shown} cannot be written: {error}"))
            }
        })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a file is no use to anybody; if it stays, reading it says so.
        let _ = std::fs::remove_file(path);
        Error::Internal(format!("{shown} cannot be written: {error}"))
    })
}

/// Writes a file in the place of what was there, durably.
///
/// # Errors
/// [`Error::Internal`]; then what was there is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = beside(path);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // If it cannot be removed either, the message below still holds.
        let _ = std::fs::remove_file(&beside);
        Error::Internal(format!("{} cannot be written: {error}", path.display()))
    })
}

/// Writes a new folder with files at paths below it, durably.
///
/// # Errors
/// [`Error::Internal`]; then there is no folder.
pub fn new_folder<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), Error> {
    let beside = beside(folder);
    let mut files = files.into_iter();
    let written = files.try_for_each(|(path, bytes)| {
        let path = beside.join(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = File::create(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all())
    });
    let written = written.and_then(|()| std::fs::rename(&beside, folder));
    written.map_err(|error| {
        // If it cannot be removed either, the message below still holds.
        let _ = std::fs::remove_dir_all(&beside);
        Error::Internal(format!("{} cannot be written: {error}", folder.display()))
    })
}

/// Where something is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.to_owned();
    beside
        .as_mut_os_string()
        .push(format!(".{}.partial", std::process::id()));
    beside
}
