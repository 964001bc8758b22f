//! The node's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ledger_node::cli::run()
}
