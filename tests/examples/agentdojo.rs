//! What `examples/agentdojo` needs beside its rules.
//!
//! `bundles DATA OUT` writes the bundles with the tools of AgentDojo, `grants DATA [OUT]` the sessions that the users' prompts
//! open, `report DATA` the table of what the rules stop. `report DATA --surprises` also names each benign action that was
//! denied and each of an attack that was allowed.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program talks to people"
)]

use std::path::Path;
use std::process::ExitCode;

use countersign_tests::agentdojo::report::report;
use countersign_tests::agentdojo::sessions::Openings;

const USAGE: &str = "usage: examples/agentdojo/bundles DATA OUT
       examples/agentdojo/grants DATA [OUT]
       examples/agentdojo/report DATA [--surprises]
DATA is laid out like the published data: context/agentdojo_tools.json, context/agentdojo_env/, traces/agentdojo-*";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["bundles", data, out] => bundles(Path::new(data), Path::new(out)),
        ["grants", data] => grants(Path::new(data), None),
        ["grants", data, out] => grants(Path::new(data), Some(Path::new(out))),
        ["report", data] => tables(Path::new(data), false),
        ["report", data, "--surprises"] => tables(Path::new(data), true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentdojo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bundles(data: &Path, out: &Path) -> Result<(), String> {
    countersign_tests::examples::agentdojo(data, out)
        .map_err(|error| format!("{error}; DATA must hold context/agentdojo_tools.json"))?;
    eprintln!("the bundles of four suites are in {}", out.display());
    Ok(())
}

fn grants(data: &Path, out: Option<&Path>) -> Result<(), String> {
    let lines = Openings::read(data)?.lines(data)?;
    match out {
        Some(out) => {
            std::fs::write(out, &lines).map_err(|error| format!("{}: {error}", out.display()))?;
            eprintln!(
                "{} sessions are in {}",
                lines.lines().count(),
                out.display()
            );
        }
        None => print!("{lines}"),
    }
    Ok(())
}

fn tables(data: &Path, surprises: bool) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let tables: Vec<String> = report(data, scratch.path())?
        .iter()
        .map(|table| {
            if surprises {
                format!("{table}{}\n", table.surprises.join("\n"))
            } else {
                table.to_string()
            }
        })
        .collect();
    print!("{}", tables.join("\n"));
    Ok(())
}
