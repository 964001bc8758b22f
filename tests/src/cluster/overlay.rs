//! A copy of a folder laid over the folder, as the tools do it that put backups back. What each of them does to files was measured with
//! `stat` on ext4; `rsync`, which is not on every machine, is done here in its own way of writing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;

/// The tool that lays a copy over files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OverlayTool {
    /// `cp -a`: cuts each file to nothing, writes it, and puts its times back. Files that are not in the copy stay.
    CopyArchive,
    /// `cp -r`: the same without the times.
    Copy,
    /// `rsync -a --delete --modify-window=-1`: leaves files alone that have size and time of modification of the copy, and replaces
    /// the others by files made beside them. Files that are not in the copy go.
    Rsync,
    /// The same with `--inplace`: the others are written where they are.
    RsyncInPlace,
}

impl OverlayTool {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::CopyArchive,
        Self::Copy,
        Self::Rsync,
        Self::RsyncInPlace,
    ];

    /// Lays a copy, with the times of its files, over a folder.
    ///
    /// # Panics
    /// If a file cannot be read or written.
    pub fn lay(self, copy: &Path, over: &Path) {
        let option = match self {
            Self::CopyArchive => "-a",
            Self::Copy => "-r",
            Self::Rsync | Self::RsyncInPlace => {
                let done = synchronize(copy, over, self == Self::RsyncInPlace);
                return done.unwrap_or_else(|error| panic!("{}: {error}", over.display()));
            }
        };
        let mut command = Command::new("cp");
        command.arg(option).arg(copy.join(".")).arg(over);
        let status = command.status().expect("cp runs");
        assert!(status.success(), "{command:?}: {status}");
    }
}

fn synchronize(copy: &Path, over: &Path, in_place: bool) -> io::Result<()> {
    fs::create_dir_all(over)?;
    for item in fs::read_dir(over)? {
        let item = item?;
        if copy.join(item.file_name()).exists() {
            continue;
        }
        if item.file_type()?.is_dir() {
            fs::remove_dir_all(item.path())?;
        } else {
            fs::remove_file(item.path())?;
        }
    }
    for item in fs::read_dir(copy)? {
        let item = item?;
        let to = over.join(item.file_name());
        if item.file_type()?.is_dir() {
            synchronize(&item.path(), &to, in_place)?;
        } else {
            synchronize_file(&item.path(), &to, in_place)?;
        }
    }
    Ok(())
}

fn synchronize_file(copy: &Path, over: &Path, in_place: bool) -> io::Result<()> {
    let from = fs::metadata(copy)?;
    let modified = from.modified()?;
    if let Ok(found) = fs::metadata(over) {
        if found.len() == from.len() && found.modified()? == modified {
            return Ok(());
        }
        if in_place {
            let mut file = OpenOptions::new().write(true).open(over)?;
            io::copy(&mut File::open(copy)?, &mut file)?;
            file.set_len(from.len())?;
            return file.set_modified(modified);
        }
    }
    let mut name = OsString::from(".");
    name.push(over.file_name().unwrap_or_default());
    let beside = over.with_file_name(name);
    fs::copy(copy, &beside)?;
    let file = OpenOptions::new().write(true).open(&beside)?;
    file.set_modified(modified)?;
    fs::rename(beside, over)
}
