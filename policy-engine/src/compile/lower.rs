//! From rule files to Cedar policies and temporal conditions, by Dogwood, with every finding told where it belongs.

use std::collections::BTreeSet;

use dogwood_language::{
    Distincter, Error, LoweredPolicySet, ParsedPolicySet, PolicySchema, ServiceSchema,
    ValidationError, ValidationWarning, Validator, lower_many,
};
use dogwood_syntax::{ItemKind, parse_document, split_bom};

use crate::bundle::{Bundle, SourceFile};
use crate::check::id_in;
use crate::compile::RuleSource;
use crate::compile::validate::sound;
use crate::diagnostic::{Diagnostic, Severity};
use crate::event_schema::service_schema;
use crate::limits::MAX_RULE_ID_BYTES;
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
    /// The byte of its file on which it begins.
    start: usize,
    /// What stands in its `@id`, for findings.
    id: Option<String>,
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
    let sound = sound(&set, &bundle.schema().text);
    let warnings = if sound.is_empty() {
        validate(&files, &set, &rules)?
    } else {
        validate_rest(&files, &service, &schema, &rules, &sound)?
    };
    Ok(Lowered {
        set,
        rules,
        warnings,
    })
}

/// The warnings of the rules at other places than these.
///
/// The text of those is blanked out, so that what is found stands where its author wrote it.
fn validate_rest(
    files: &[&SourceFile],
    service: &ServiceSchema,
    schema: &PolicySchema,
    rules: &[Written],
    sound: &BTreeSet<usize>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    if sound.len() == rules.len() {
        return Ok(Vec::new());
    }
    let blanked: Vec<SourceFile> = files
        .iter()
        .map(|file| {
            let rules = rules
                .iter()
                .enumerate()
                .filter(|(place, rule)| sound.contains(place) && rule.source.path == file.path);
            let spans = rules.map(|(_, rule)| (rule.start, rule.source.text.len()));
            SourceFile {
                path: file.path.clone(),
                text: blanked(&file.text, spans),
            }
        })
        .collect();
    let files: Vec<&SourceFile> = blanked.iter().collect();
    let (parsed, rules) = parse(&files, service)?;
    let set = combine(&parsed, service, schema).map_err(|error| describe(&files, &error))?;
    validate(&files, &set, &rules)
}

/// The text with spaces for all but the ends of lines, from these bytes on, so many.
fn blanked(text: &str, spans: impl Iterator<Item = (usize, usize)>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (start, length) in spans {
        let blanked = bytes.iter_mut().skip(start).take(length);
        blanked
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
    }
    // Rules begin and end between characters, so this cannot fail.
    String::from_utf8(bytes).unwrap_or_default()
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
    // Counted from rule to rule: counting each from the top would take the square of the file.
    let (mut line, mut counted) = (1, 0);
    set.policies()
        .zip(spans)
        .map(|(policy, span)| {
            let start = bom.len() + span.start;
            let between = file.text.as_bytes().get(counted..start).unwrap_or_default();
            line += between.iter().filter(|byte| **byte == b'\n').count();
            counted = start;
            let text = span.text(text);
            Written {
                source: RuleSource {
                    path: file.path.clone(),
                    line,
                    text: text.to_owned(),
                },
                start,
                // One that is too long to be an id is too long to be shown, too.
                id: id_in(text).filter(|id| id.len() <= MAX_RULE_ID_BYTES),
                printed: policy.expanded_source(),
            }
        })
        .collect()
}

impl Written {
    /// A finding about the rule as a whole.
    pub(super) fn finding(
        &self,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        let finding = Diagnostic::error(&self.source.path, message, mend).at_line(self.source.line);
        match &self.id {
            Some(id) => finding.in_rule(id),
            None => finding,
        }
    }
}

fn without_providers(set: &ParsedPolicySet, rules: &[Written]) -> Vec<Diagnostic> {
    set.policies()
        .zip(rules)
        .filter(|(policy, _)| policy.uses_providers())
        .map(|(_, rule)| {
            rule.finding(
                "the rule calls a provider, and a replica has nothing but the ledger to decide from",
                "let a gateway assert the fact about the resource, or an issuer grant it to the session",
            )
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
        .map(|error| in_its_rule(rules, invalid(files, error)))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let warnings = result.validation_warnings().map(|warning| {
        let mend = "see Cedar's documentation of validation warnings, or Dogwood's guide";
        let message = warning.to_string();
        let finding = match warning {
            ValidationWarning::Cedar(warning) => {
                let rule = set.rule_ref(warning.policy_id().as_ref());
                let rule = rule.and_then(|rule| rules.get(rule.rule_index));
                rule.map(|rule| rule.finding(told(&message), mend))
            }
            ValidationWarning::Extension { span, src, .. } => Some(in_its_rule(
                rules,
                at_offset(files, src, span.offset(), &message, mend),
            )),
            _ => None,
        };
        Diagnostic {
            severity: Severity::Warning,
            ..finding.unwrap_or_else(|| unexpected(&message))
        }
    });
    Ok(warnings.collect())
}

/// The finding, with the id of the rule on whose lines it stands.
fn in_its_rule(rules: &[Written], finding: Diagnostic) -> Diagnostic {
    let rule = rules
        .iter()
        .rfind(|rule| rule.source.path == finding.file && Some(rule.source.line) <= finding.line)
        .and_then(|rule| rule.id.clone());
    Diagnostic { rule, ..finding }
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
                told,
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
    Diagnostic::error(path, told(message), mend).at_line(line_at(text, offset))
}

fn unexpected(error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        "rules",
        told(&error.to_string()),
        "make the rules and the schema fit each other",
    )
}

/// Another's message in the form of ours: one line, without a period at its end, and without the id that Dogwood gave the
/// rule.
pub(super) fn told(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    let message = words.join(" ");
    let named = message.strip_prefix("for policy `");
    let named = named.and_then(|rest| Some(rest.split_once("`, ")?.1));
    named.unwrap_or(&message).trim_end_matches('.').to_owned()
}
