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

/// A new file that nobody else can read: what is kept may be confidential. What another process has put at its path, a link for instance,
/// is not written through.
fn create(path: &Path) -> io::Result<File> {
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    };
    match create() {
        // Of a process of this number that broke off.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            create()
        }
        created => created,
    }
}

/// Waits until no other process changes a file that several keep, and keeps them out until what is returned is dropped.
///
/// # Errors
/// [`Error::Internal`]
pub fn lock(path: &Path) -> Result<File, Error> {
    let mut beside = path.to_owned();
    beside.as_mut_os_string().push(".lock");
    let locked = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&beside)
        .and_then(|file| file.lock().map(|()| file));
    locked
        .map_err(|error| Error::Internal(format!("{} cannot be locked: {error}", beside.display())))
}

/// Writes a file in the place of what was there, durably, for its owner's eyes only.
///
/// # Errors
/// [`Error::Internal`]; then what was there is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = beside(path);
    let written = create(&beside)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_for_its_owner_alone_and_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("permit"), folder.path().join("other"));
        std::fs::write(&other, b"untouched").unwrap();
        symlink(&other, beside(&path)).unwrap();
        for text in [b"one", b"two"] {
            replace(&path, text).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), text);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
        assert!(!path.is_symlink() && !beside(&path).exists());
    }
}
