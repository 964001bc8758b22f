//! `ledger-client policy`: what authors of rules do before they publish.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use policy_engine::{Bundle, Compiled, Diagnostic, Severity, add_missing_ids, check, run_cases};
use serde::Serialize;

use super::{Exit, Failure, print_json, write_file};
use crate::bundle_dir;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find out whether a bundle can be published, and whether it means what it seems to mean.
    Check {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Give an id to each rule that has none; changes the rule files.
        #[arg(long)]
        fix: bool,
    },
    /// Run the bundle's own test cases.
    Test {
        /// The bundle's directory.
        bundle: PathBuf,
    },
    /// Write the bundle's canonical bytes, which its digest names.
    Pack {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Where to write them.
        #[arg(long)]
        out: PathBuf,
    },
    /// Print the schema that the rules are checked against, generated from manifests where there are any.
    Schema {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Check { bundle, fix } => {
            if *fix {
                fix_ids(bundle)?;
            }
            let findings = match read(bundle)? {
                Ok(bundle) => check(&bundle),
                Err(findings) => findings,
            };
            print_findings(&findings, json, out)
        }
        Command::Test { bundle } => test(bundle, json, out),
        Command::Pack {
            bundle: directory,
            out: file,
        } => {
            let bundle = sound(directory)?.0;
            write_file(file, &bundle.pack())?;
            let packed = Packed {
                name: bundle.name(),
                digest: bundle.digest().to_string(),
                bytes: bundle.pack().len(),
            };
            if json {
                print_json(out, &packed)?;
            } else {
                writeln!(out, "{}", packed.digest)?;
            }
            Ok(Exit::Done)
        }
        Command::Schema { bundle } => {
            let bundle = sound(bundle)?.0;
            write!(out, "{}", bundle.schema().text)?;
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct Packed<'a> {
    name: &'a str,
    digest: String,
    bytes: usize,
}

fn read(directory: &Path) -> Result<Result<Bundle, Vec<Diagnostic>>, Failure> {
    let files = bundle_dir::read(directory)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    Ok(Bundle::from_files(files))
}

/// A bundle that compiles; anything else is told to the author and ends the command.
fn sound(directory: &Path) -> Result<(Bundle, Compiled), Failure> {
    let compiled = read(directory)?
        .and_then(|bundle| Compiled::compile(&bundle).map(|compiled| (bundle, compiled)));
    compiled.map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(Diagnostic::to_string).collect();
        Failure::new(
            Exit::Denied,
            format!(
                "{} is not a sound bundle\n{}",
                directory.display(),
                lines.join("\n")
            ),
        )
    })
}

#[derive(Serialize)]
struct Finding<'a> {
    file: &'a str,
    line: Option<usize>,
    rule: Option<&'a str>,
    severity: &'static str,
    message: &'a str,
    mend: &'a str,
}

#[derive(Serialize)]
struct Findings<'a> {
    findings: Vec<Finding<'a>>,
}

fn print_findings(
    findings: &[Diagnostic],
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if json {
        let findings = findings
            .iter()
            .map(|finding| Finding {
                file: &finding.file,
                line: finding.line,
                rule: finding.rule.as_deref(),
                severity: match finding.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                message: &finding.message,
                mend: &finding.mend,
            })
            .collect();
        print_json(out, &Findings { findings })?;
    } else {
        for finding in findings {
            writeln!(out, "{finding}")?;
        }
    }
    let refused = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    Ok(if refused { Exit::Denied } else { Exit::Done })
}

fn fix_ids(directory: &Path) -> Result<(), Failure> {
    let files = bundle_dir::read(directory)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    for (path, bytes) in files {
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let is_rules = path.starts_with("rules/");
        let fixed = if is_rules {
            add_missing_ids(&path, &text)
        } else {
            text.clone()
        };
        if fixed != text {
            write_file(&directory.join(&path), fixed.as_bytes())?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Tested {
    cases: usize,
    failures: Vec<String>,
}

fn test(directory: &Path, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (bundle, compiled) = sound(directory)?;
    let failures = run_cases(&compiled, &bundle);
    let tested = Tested {
        cases: bundle.cases().len(),
        failures: failures.iter().map(ToString::to_string).collect(),
    };
    if json {
        print_json(out, &tested)?;
    } else {
        for failure in &tested.failures {
            writeln!(out, "{failure}")?;
        }
        writeln!(
            out,
            "{} cases, {} failed steps",
            tested.cases,
            tested.failures.len()
        )?;
    }
    Ok(if tested.failures.is_empty() {
        Exit::Done
    } else {
        Exit::Denied
    })
}
