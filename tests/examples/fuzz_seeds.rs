//! Writes the seeds of every fuzz target into folders below the one that it is given. `scripts/fuzz` runs it.

use std::path::PathBuf;
use std::{env, fs, io};

use countersign_tests::fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("name the folder to write to"))?;
    for (name, _) in TARGETS {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        for seed in seeds(name) {
            fs::write(folder.join(blake3::hash(&seed).to_hex().as_str()), seed)?;
        }
    }
    Ok(())
}
