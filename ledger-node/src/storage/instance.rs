//! Whether a data directory is the one that its node wrote last, or a copy.
//!
//! A copy of a whole directory agrees with itself: its marker promises what its store holds. What copies of files do not carry
//! along is on which device a file is, under which inode number, and when it was born. So a node that begins to take part makes
//! an empty file under a new name in its data directory, and its marker remembers that name with these three numbers. Where they
//! are others at the next start, the directory was copied, and the node asks the other nodes what it has forgotten.
//!
//! A disk that is put back as a whole under the same numbers, as snapshots of volumes and of virtual machines do, is not told apart here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::folders::sync_dir;

/// How the names of instance files begin; 32 hexadecimal digits follow.
const PREFIX: &str = "instance-";

/// The file that marks one run of a node in its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceFile {
    /// 16 random bytes, which are in the file's name.
    pub nonce: [u8; 16],
    /// The device that the file is on.
    pub device: u64,
    /// The number of the file's inode.
    pub inode: u64,
    /// When the file was born, in nanoseconds since 1970; 0 if the file system does not say, so that no copy can be told.
    pub born_at_ns: u64,
}

impl InstanceFile {
    /// Makes the file of a new run, durably.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(data_dir: &Path, nonce: [u8; 16]) -> io::Result<Self> {
        let path = path(data_dir, &nonce);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.sync_all()?;
        sync_dir(data_dir)?;
        measured(&file, nonce)
    }

    /// True if the file is known to be where it was made.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn is_in(&self, data_dir: &Path) -> io::Result<bool> {
        let file = match File::open(path(data_dir, &self.nonce)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(self.born_at_ns != 0 && measured(&file, self.nonce)? == *self)
    }

    /// Removes the files of earlier runs. What stays behind is removed by a later run.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn remove_others(&self, data_dir: &Path) -> io::Result<()> {
        let own = path(data_dir, &self.nonce);
        for item in fs::read_dir(data_dir)? {
            let item = item?;
            let name = item.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) && item.path() != own {
                fs::remove_file(item.path())?;
            }
        }
        Ok(())
    }
}

fn path(data_dir: &Path, nonce: &[u8; 16]) -> PathBuf {
    data_dir.join(format!("{PREFIX}{}", hex::encode(nonce)))
}

fn measured(file: &File, nonce: [u8; 16]) -> io::Result<InstanceFile> {
    let metadata = file.metadata()?;
    let born = metadata.created().ok();
    let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born_at_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok());
    Ok(InstanceFile {
        nonce,
        device: metadata.dev(),
        inode: metadata.ino(),
        born_at_ns: born_at_ns.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_from_the_directory_and_a_directory_that_moved_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let first = InstanceFile::create(&data, [1; 16]).unwrap();
        assert!(first.is_in(&data).unwrap());
        let second = InstanceFile::create(&data, [2; 16]).unwrap();
        assert!(first.is_in(&data).unwrap(), "until it is removed");
        second.remove_others(&data).unwrap();
        assert!(!first.is_in(&data).unwrap());
        assert!(second.is_in(&data).unwrap());

        let moved = dir.path().join("moved");
        fs::rename(&data, &moved).unwrap();
        assert!(second.is_in(&moved).unwrap());
        fs::create_dir(&data).unwrap();
        for item in fs::read_dir(&moved).unwrap() {
            let item = item.unwrap();
            fs::copy(item.path(), data.join(item.file_name())).unwrap();
        }
        assert!(!second.is_in(&data).unwrap());
        // The old one, put back over what came after it: its file is made anew.
        fs::write(moved.join(path(Path::new(""), &[1; 16])), []).unwrap();
        assert!(!first.is_in(&moved).unwrap());
    }
}
