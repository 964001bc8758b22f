//! The node's command line.

use std::process::ExitCode;

/// For RocksDB too, which frees and allocates without pause: glibc's allocator keeps more and more of what is freed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ledger_node::cli::run()
}
