//! From rule files to Cedar policies and temporal conditions, by Dogwood, with every finding told where it belongs.

use dogwood_language::{
    Distincter, Error, LoweredPolicySet, ParsedPolicySet, PolicySchema, ServiceSchema,
    ValidationError, ValidationWarning, Validator, lower_many,
};
use dogwood_syntax::{ItemKind, parse_document, split_bom};

use crate::bundle::{Bundle, SourceFile};
use crate::compile::RuleSource;
use crate::diagnostic::{Diagnostic, Severity};
use crate::event_schema::service_schema;
use crate::nesting::check_nesting;
use crate::text::line_at;

/// The rules of a bundle, lowered, and what their files say about each.
pub(super) struct Lowered {
    pub(super) set: LoweredPolicySet,
    /// In the order of the lowered rules.
    pub(super) rules: Vec<Written>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// A rule as it was written and as the parser prints it.
pub(super) struct Written {
    pub(super) source: RuleSource,
    /// With macros written out, without comments, in the parser's own layout.
    pub(super) printed: String,
}

/// Parses, lowers and validates all rules of a bundle. Recursive: runs on the guarded thread.
pub(super) fn lower(bundle: &Bundle) -> Result<Lowered, Vec<Diagnostic>> {
    let files: Vec<&SourceFile> = bundle.rules().collect();
    let findings: Vec<Diagnostic> = files
        .iter()
        .filter_map(|file| {
            let error = check_nesting(&file.text).err()?;
            let mend = "split the rule into several";
            Some(Diagnostic::error(&file.path, error.to_string(), mend).at_line(error.line()))
        })
        .collect();
    if !findings.is_empty() {
        return Err(findings);
    }
    let service = service_schema().map_err(|error| vec![unexpected(&error)])?;
    let (parsed, rules) = parse(&files, &service)?;
    let schema = PolicySchema::from_cedarschema_str(&bundle.schema().text)
        .map_err(|error| vec![unexpected(&error)])?;
    let set = combine(&parsed, &service, &schema).map_err(|error| describe(&files, &error))?;
    let warnings = validate(&files, &set, &rules)?;
    Ok(Lowered {
        set,
        rules,
        warnings,
    })
}

fn parse(
    files: &[&SourceFile],
    service: &ServiceSchema,
) -> Result<(Vec<ParsedPolicySet>, Vec<Written>), Vec<Diagnostic>> {
    let mut findings = Vec::new();
    let mut sets = Vec::new();
    let mut rules = Vec::new();
    for file in files {
        match ParsedPolicySet::parse(&file.text, service) {
            Ok(set) => {
                let written = written(file, &set);
                findings.extend(without_providers(&set, &written));
                rules.extend(written);
                sets.push(set);
            }
            Err(error) => findings.extend(describe(std::slice::from_ref(file), &error)),
        }
    }
    if findings.is_empty() {
        Ok((sets, rules))
    } else {
        Err(findings)
    }
}

/// The rules of one file, each with its own text.
fn written(file: &SourceFile, set: &ParsedPolicySet) -> Vec<Written> {
    let (bom, text) = split_bom(&file.text);
    let items = parse_document(text).map_or_else(|_| Vec::new(), |document| document.items);
    let spans = items
        .into_iter()
        .filter(|item| item.kind == ItemKind::Policy)
        .map(|item| item.span);
    set.policies()
        .zip(spans)
        .map(|(policy, span)| Written {
            source: RuleSource {
                path: file.path.clone(),
                line: line_at(&file.text, bom.len() + span.start),
                text: text
                    .get(span.start..span.end)
                    .unwrap_or_default()
                    .to_owned(),
            },
            printed: policy.expanded_source(),
        })
        .collect()
}

fn without_providers(set: &ParsedPolicySet, rules: &[Written]) -> Vec<Diagnostic> {
    set.policies()
        .zip(rules)
        .filter(|(policy, _)| policy.uses_providers())
        .map(|(_, rule)| {
            let message = "the rule calls a provider, and a replica has nothing but the ledger to decide from";
            let mend = "let a gateway assert the fact about the resource, or the issuer grant it to the session";
            Diagnostic::error(&rule.source.path, message, mend).at_line(rule.source.line)
        })
        .collect()
}

fn combine(
    parsed: &[ParsedPolicySet],
    service: &ServiceSchema,
    schema: &PolicySchema,
) -> Result<LoweredPolicySet, Error> {
    if parsed.is_empty() {
        return ParsedPolicySet::parse("", service)?.lower(schema);
    }
    let entries = parsed
        .iter()
        .enumerate()
        .map(|(index, set)| Ok((set, format!("rules{index}").parse::<Distincter>()?)))
        .collect::<Result<Vec<_>, Error>>()?;
    lower_many(&entries, schema)
}

/// The warnings of a sound set of rules.
fn validate(
    files: &[&SourceFile],
    set: &LoweredPolicySet,
    rules: &[Written],
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let result = Validator::new().validate(set);
    let errors: Vec<Diagnostic> = result
        .validation_errors()
        .map(|error| invalid(files, error))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let place = |id: &str| {
        let rule = set.rule_ref(id)?;
        rules.get(rule.rule_index)
    };
    Ok(result
        .validation_warnings()
        .map(|warning| match warning {
            ValidationWarning::Extension {
                message, span, src, ..
            } => Diagnostic {
                severity: Severity::Warning,
                ..at_offset(files, src, span.offset(), message, "see Dogwood's guide")
            },
            ValidationWarning::Cedar(warning) => {
                let message = tidy(&warning.to_string());
                let mend = "see Cedar's documentation of validation warnings";
                match place(warning.policy_id().as_ref()) {
                    Some(rule) => Diagnostic::warning(&rule.source.path, message, mend)
                        .at_line(rule.source.line),
                    None => Diagnostic::warning("rules", message, mend),
                }
            }
            _ => Diagnostic::warning("rules", tidy(&warning.to_string()), "see Dogwood's guide"),
        })
        .collect())
}

fn invalid(files: &[&SourceFile], error: &ValidationError) -> Diagnostic {
    match error {
        ValidationError::Cedar {
            message,
            span,
            help,
            src,
            ..
        }
        | ValidationError::Extension {
            message,
            span,
            help,
            src,
            ..
        } => {
            let mend = help.as_deref().map_or_else(
                || "make the rule fit the schema, or the schema the rule".to_owned(),
                tidy,
            );
            at_offset(files, src, span.offset(), message, &mend)
        }
        _ => unexpected(error),
    }
}

/// What Dogwood's parser or lowering says, one finding for each error.
fn describe(files: &[&SourceFile], error: &Error) -> Vec<Diagnostic> {
    let mend = "see the grammar of Cedar, and Dogwood's of temporal conditions";
    let located = |location: &dogwood_language::SourceLoc, message: String| {
        let offset = location.span().offset();
        at_offset(files, location.source(), offset, &message, mend)
    };
    if let Error::Parse(errors) = error {
        let findings = errors
            .iter()
            .map(|error| located(error.location(), error.to_string()));
        return findings.collect();
    }
    let location = if let Error::Macro(error) = error {
        Some(error.location())
    } else if let Error::Cedarify(error) = error {
        error.location()
    } else {
        None
    };
    vec![location.map_or_else(
        || unexpected(error),
        |location| located(location, error.to_string()),
    )]
}

/// A finding at a byte of that file whose text this is.
fn at_offset(
    files: &[&SourceFile],
    text: &str,
    offset: usize,
    message: &str,
    mend: &str,
) -> Diagnostic {
    // Dogwood may or may not keep a byte-order mark in what it quotes.
    let file = files
        .iter()
        .find(|file| file.text == text || split_bom(&file.text).1 == text);
    let path = file.map_or("rules", |file| file.path.as_str());
    Diagnostic::error(path, tidy(message), mend).at_line(line_at(text, offset))
}

fn unexpected(error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        "rules",
        tidy(&error.to_string()),
        "make the rules and the schema fit each other",
    )
}

/// Another's message in the form of ours: one line, without a period at its end.
pub(super) fn tidy(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}
