//! `ledger-client policy check`: what can be said against a bundle.

use std::io::Write;
use std::path::Path;

use policy_engine::{Diagnostic, Severity, add_missing_ids};
use serde::Serialize;

use super::super::{Exit, Failure, print_json};
use super::read;
use crate::{bundle_dir, files};

pub(super) fn check(
    directory: &Path,
    fix: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if fix {
        fix_ids(directory)?;
    }
    let findings = match read(directory)? {
        Ok(bundle) => policy_engine::check(&bundle),
        Err(findings) => findings,
    };
    print_findings(&findings, json, out)
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
            files::replace(&directory.join(&path), fixed.as_bytes())?;
        }
    }
    Ok(())
}
