//! Whether a data directory is the one that its node wrote last, or a copy.
//!
//! A copy of a whole directory agrees with itself: its marker promises what its store holds. What copies of files do not carry
//! along is on which device a file is, under which inode number, when it was born, and when its inode was changed last. So a node
//! that begins to take part makes a file under a new name in its data directory, which nobody writes again, and its marker
//! remembers that name with these four, and with the first three of the marker's own file. Where they are others at the next
//! start, the directory was copied, or a copy was laid over it, and the node asks the other nodes what it has forgotten.
//!
//! A copy that is laid over the files of its own run meets the same instance file. A tool that writes that file anew, with the
//! same bytes, changes its inode; one that sees that it is the same and leaves it alone has put the older marker back: in a new
//! file, or in place and with the older time of modification. The node's own writes set the times of modification and of change
//! to the same value, and no call sets the time of change to another one than now. All of these are times of the kernel, which
//! are compared with each other and with no clock.
//!
//! A disk that is put back as a whole under the same numbers, as snapshots of volumes and of virtual machines do, is not told
//! apart here, and neither is a marker that was written in place by a tool that leaves the instance file alone and does not put
//! times back.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::folders::sync_dir;

/// How the names of instance files begin; 32 hexadecimal digits follow.
const PREFIX: &str = "instance-";
/// What is in an instance file: there must be something that a tool which copies bytes without cutting files writes again.
const CONTENT: &[u8] =
    b"ledger-node tells by this file whether its data directory was copied; leave it alone.\n";

/// The identity of a file: what a copy of the file does not have, and a file that moved does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The device that the file is on.
    pub device: u64,
    /// The number of the file's inode.
    pub inode: u64,
    /// When the file was born, in nanoseconds since 1970; 0 if the file system does not say, so that no copy can be told.
    pub born_at_ns: u64,
}

impl FileIdentity {
    /// The identity of the file that this was read of.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok();
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_at_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born_at_ns: born_at_ns.unwrap_or(0),
        }
    }

    /// True if it is known, and the same.
    fn is(self, other: Self) -> bool {
        self.born_at_ns != 0 && self == other
    }
}

/// The file that marks one run of a node in its data directory, and what is known of the marker that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceFile {
    /// 16 random bytes, which are in the file's name.
    pub nonce: [u8; 16],
    /// The identity of the file.
    pub file: FileIdentity,
    /// When the file's inode was changed last, in nanoseconds since 1970: when the file was made.
    pub changed_at_ns: u64,
    /// The identity of the marker's own file.
    pub marker: FileIdentity,
}

impl InstanceFile {
    /// Makes the file of a new run, durably, for the marker whose file this is.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(data_dir: &Path, nonce: [u8; 16], marker: FileIdentity) -> io::Result<Self> {
        let path = path(data_dir, &nonce);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(CONTENT)?;
        file.sync_all()?;
        sync_dir(data_dir)?;
        let metadata = file.metadata()?;
        Ok(Self {
            nonce,
            file: FileIdentity::of(&metadata),
            changed_at_ns: changed_at_ns(&metadata),
            marker,
        })
    }

    /// True if the file is known to be the one that was made, and to be as it was made.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn is_in(&self, data_dir: &Path) -> io::Result<bool> {
        let metadata = match fs::symlink_metadata(path(data_dir, &self.nonce)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(self.file.is(FileIdentity::of(&metadata))
            && self.changed_at_ns == changed_at_ns(&metadata))
    }

    /// True if this is known to be the marker's file, and what wrote it last has set no time of modification. The next write of the
    /// node makes that true again of any file.
    #[must_use]
    pub fn is_marked_by(&self, marker: &Metadata) -> bool {
        let modified = (marker.mtime(), marker.mtime_nsec());
        self.marker.is(FileIdentity::of(marker))
            && modified == (marker.ctime(), marker.ctime_nsec())
    }

    /// What is remembered of a run in a directory that was copied: no file is known to be this one ever again.
    #[must_use]
    pub const fn copied(mut self) -> Self {
        self.file.born_at_ns = 0;
        self
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

fn changed_at_ns(metadata: &Metadata) -> u64 {
    let ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    u64::try_from(ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const MARKER: FileIdentity = FileIdentity {
        device: 1,
        inode: 2,
        born_at_ns: 3,
    };

    fn create(data: &Path, nonce: u8) -> InstanceFile {
        InstanceFile::create(data, [nonce; 16], MARKER).unwrap()
    }

    #[test]
    fn a_copy_is_told_from_the_directory_and_a_directory_that_moved_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let first = create(&data, 1);
        assert!(first.is_in(&data).unwrap());
        let second = create(&data, 2);
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

    /// What lays a copy over a file.
    type Way = fn(&Path);

    #[test]
    fn a_copy_that_is_laid_over_its_own_run_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), &[1; 16]);
        let ways: [(&str, Way); 4] = [
            ("cp", |file| fs::write(file, CONTENT).unwrap()),
            ("dd conv=notrunc", |file| {
                let mut open = fs::OpenOptions::new().write(true).open(file).unwrap();
                open.write_all(CONTENT).unwrap();
            }),
            ("cp -a", |file| {
                let modified = fs::metadata(file).unwrap().modified().unwrap();
                fs::write(file, CONTENT).unwrap();
                let open = fs::OpenOptions::new().write(true).open(file).unwrap();
                open.set_modified(modified).unwrap();
            }),
            ("chmod", |file| {
                fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
            }),
        ];
        for (name, way) in ways {
            let made = create(dir.path(), 1);
            assert!(made.is_in(dir.path()).unwrap());
            // A kernel may date by the tick.
            std::iter::repeat_with(|| way(&file))
                .take(1_000_000)
                .find(|()| !made.is_in(dir.path()).unwrap())
                .unwrap_or_else(|| panic!("{name}"));
            fs::remove_file(&file).unwrap();
        }
        let made = create(dir.path(), 1);
        assert!(!made.copied().is_in(dir.path()).unwrap());
    }
}
