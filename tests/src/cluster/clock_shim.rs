//! Wrong clocks for real processes: a library that is loaded before the program's own and moves its time of day.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What moves the clock of one process.
#[derive(Debug)]
pub struct ClockShim {
    library: PathBuf,
    offset: PathBuf,
}

impl ClockShim {
    /// Makes the library, with the compiler that the store is built with as well, for a clock that is so many microseconds ahead.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn ahead(folder: &Path, by_us: i64) -> Self {
        let source = folder.join("clock_shim.c");
        let library = folder.join("clock_shim.so");
        std::fs::write(&source, include_str!("clock_shim.c")).expect("a file");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .expect("a C compiler; run `make deps`");
        assert!(status.success(), "cc: {status}");
        let shim = Self {
            library,
            offset: folder.join("clock-offset"),
        };
        shim.is_ahead(by_us);
        shim
    }

    /// From now on the clock is this far ahead of the machine's, or behind.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn is_ahead(&self, by_us: i64) {
        let written = self.offset.with_extension("new");
        std::fs::write(&written, by_us.to_string()).expect("a file");
        std::fs::rename(&written, &self.offset).expect("a file");
    }

    /// Has a command run with that clock.
    pub(super) fn preload(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("COUNTERSIGN_TEST_CLOCK_OFFSET", &self.offset);
    }
}
