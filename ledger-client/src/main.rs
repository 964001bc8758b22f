//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ledger_client::cli::run()
}
