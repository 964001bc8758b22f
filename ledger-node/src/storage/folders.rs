//! The folders of databases in a data directory: which one is live, and how another one takes its place.
//!
//! The live database is the folder that the file `LIVE` names; another one becomes live by one rename of that file, so that a
//! crash leaves either the old or the new. Every other folder that looks like a database is left over from such a moment.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Names the folder of the live database.
const LIVE: &str = "LIVE";
/// How folders of databases begin.
const FOLDER: &str = "db-";

/// True if the directory has a live database.
pub(super) fn has_live(data_dir: &Path) -> bool {
    data_dir.join(LIVE).exists()
}

/// The folder of a new data directory.
pub(super) fn first(data_dir: &Path) -> PathBuf {
    data_dir.join(format!("{FOLDER}1"))
}

/// The folder that comes after this one, free for use: what a crash left there is removed.
pub(super) fn next(folder: &Path) -> io::Result<PathBuf> {
    let number = folder
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix(FOLDER)?.parse::<u64>().ok())
        .ok_or_else(|| io::Error::other("the live database has no number"))?;
    let next = folder.with_file_name(format!("{FOLDER}{}", number + 1));
    if next.exists() {
        fs::remove_dir_all(&next)?;
    }
    Ok(next)
}

/// Which folder holds the live database.
pub(super) fn live(data_dir: &Path) -> io::Result<PathBuf> {
    let name = fs::read_to_string(data_dir.join(LIVE)).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot read which database is live: {error}"),
        )
    })?;
    let name = name.trim();
    if !name.starts_with(FOLDER) || name.contains(['/', '\\']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{LIVE} does not name a database: {name:?}"),
        ));
    }
    Ok(data_dir.join(name))
}

/// Names a folder as the live database, durably.
pub(super) fn make_live(data_dir: &Path, folder: &Path) -> io::Result<()> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::other("a database folder without a name"))?;
    // The folder has its name on disk before anything points at it.
    sync_dir(data_dir)?;
    let temporary = data_dir.join("LIVE.new");
    let mut file = File::create(&temporary)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(LIVE))?;
    sync_dir(data_dir)
}

/// Removes every database but the live one.
pub(super) fn remove_leftovers(data_dir: &Path, live: &Path) -> io::Result<()> {
    // The name of the live one is on disk before the others go: whoever wrote it may not have lived to see it there.
    sync_dir(data_dir)?;
    for item in fs::read_dir(data_dir)? {
        let item = item?;
        let name = item.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(FOLDER) && item.path() != live {
            fs::remove_dir_all(item.path())?;
        }
    }
    Ok(())
}

/// True if the live database is the only one left.
pub(super) fn is_alone(data_dir: &Path, live: &Path) -> io::Result<bool> {
    for item in fs::read_dir(data_dir)? {
        let item = item?;
        let is_database = item
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(FOLDER));
        if is_database && item.path() != live {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the files of a folder durable, and the folder itself.
pub(super) fn sync_files(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_file() {
            match File::open(item.path()) {
                Ok(file) => file.sync_all()?,
                // An open database removes what it no longer needs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(dir)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn bytes(dir: &Path) -> u64 {
    let Ok(items) = fs::read_dir(dir) else {
        return 0;
    };
    items
        .filter_map(|item| item.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Copies the files of a database that nobody writes to: tables, which never change, as hard links, the others byte by byte.
/// RocksDB's diary and lock stay behind, and so does the file `but`.
///
/// # Errors
/// The target exists, or a file cannot be read or written.
pub fn copy_linked(from: &Path, to: &Path, but: Option<&str>) -> io::Result<()> {
    fs::create_dir(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let name = item.file_name();
        let Some(plain) = name.to_str() else { continue };
        if Some(plain) == but || plain == "LOCK" || plain == "LOG" || plain.starts_with("LOG.") {
            continue;
        }
        if Path::new(plain).extension().is_some_and(|end| end == "sst") {
            fs::hard_link(item.path(), to.join(plain))?;
        } else {
            fs::copy(item.path(), to.join(plain))?;
        }
    }
    Ok(())
}
