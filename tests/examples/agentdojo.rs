//! What `examples/agentdojo` needs beside its rules: `bundles DATA OUT` writes the bundles with the tools of AgentDojo.

#![expect(clippy::print_stderr, reason = "a program talks to people")]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["bundles", data, out] = arguments.as_slice() else {
        eprintln!("usage: examples/agentdojo/bundles DATA OUT");
        return ExitCode::from(2);
    };
    match countersign_tests::examples::agentdojo(Path::new(data), Path::new(out)) {
        Ok(()) => {
            eprintln!("the bundles of four suites are in {out}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("agentdojo: {error}; DATA must hold context/agentdojo_tools.json");
            ExitCode::FAILURE
        }
    }
}
