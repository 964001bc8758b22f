//! Ports of loopback that no other test uses at the same time.
//!
//! Nodes are configured with ports before they start, and keep them over a restart, so that "any free port" is not enough.
//! Each cluster takes a block of ports below those that systems give to outgoing connections, and holds a lock on it.

use std::fs::File;
use std::net::TcpListener;

/// The first port.
const FIRST: u16 = 20_000;
/// Ports in a block.
const BLOCK: u16 = 40;
/// Blocks; the last port is 31,999, below the usual 32,768.
const BLOCKS: u16 = 300;

/// A block of ports, ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
    end: u16,
    _lock: File,
}

impl Ports {
    /// Takes a block.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub(crate) fn take() -> Self {
        let folder = std::env::temp_dir().join("countersign-test-ports");
        std::fs::create_dir_all(&folder).expect("a folder for locks");
        for block in 0..BLOCKS {
            let lock = File::create(folder.join(block.to_string())).expect("a lock file");
            if lock.try_lock().is_ok() {
                let next = FIRST + block * BLOCK;
                return Self {
                    next,
                    end: next + BLOCK,
                    _lock: lock,
                };
            }
        }
        panic!("all {BLOCKS} blocks of ports are in use");
    }

    /// The first port, a multiple of ten.
    pub(crate) const fn first(&self) -> u16 {
        self.next
    }

    /// The next port that nobody listens on.
    ///
    /// # Panics
    /// If the block is used up.
    #[must_use]
    pub(crate) fn give(&mut self) -> u16 {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
        panic!("a cluster needs more than {BLOCK} ports");
    }
}
