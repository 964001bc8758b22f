//! The node's command line.

use std::process::ExitCode;

/// RocksDB's blocks and tables and the log's tail live for very different times, among which the system's allocator leaves
/// ever more memory unused (decision 0014). RocksDB uses this one too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ledger_node::cli::run()
}
