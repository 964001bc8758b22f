//! `bundle.toml`: what a bundle is called, whose past it reads, and where its schema comes from.

use serde::Deserialize;

use super::{HEADER, HistoryScope};
use crate::diagnostic::Diagnostic;
use crate::limits::MAX_NAME_BYTES;
use crate::text::line_at;

/// The file, checked.
pub(super) struct Header {
    pub(super) name: String,
    pub(super) history: HistoryScope,
    pub(super) schema: SchemaSource,
}

/// Where the schema comes from.
pub(super) enum SchemaSource {
    /// A hand-written file.
    Text(String),
    /// At least one manifest.
    Manifests(Vec<ManifestSource>),
}

/// One manifest and the server whose tools it lists.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestSource {
    /// The first part of the tools' action ids; without it, the tools' bare names.
    pub(super) server: Option<String>,
    pub(super) file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    name: String,
    history: HistoryScope,
    schema: Option<String>,
    #[serde(default)]
    manifest: Vec<ManifestSource>,
}

impl Header {
    /// Reads the file. The TOML reader bounds its own recursion.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let refuse =
            |message: &str, mend: &str| Err(vec![Diagnostic::error(HEADER, message, mend)]);
        let toml: Toml = toml::from_str(text).map_err(|error| {
            let mend = "write `name`, `history` (agent, session, subject, owner or namespace), and either `schema` or \
                        `[[manifest]]` with `file` and `server`";
            let line = error.span().map(|span| line_at(text, span.start));
            vec![Diagnostic::error(HEADER, error.message(), mend).at_line(line)]
        })?;
        let Toml {
            name,
            history,
            schema,
            manifest,
        } = toml;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let message = format!(
                "`name` is empty, longer than {MAX_NAME_BYTES} bytes or has control characters"
            );
            return refuse(&message, "choose another name");
        }
        let schema = match schema {
            Some(path) if manifest.is_empty() => SchemaSource::Text(path),
            None if !manifest.is_empty() => SchemaSource::Manifests(manifest),
            _ => {
                return refuse(
                    "there is not exactly one source of the schema",
                    "name a `schema` or manifests, not both",
                );
            }
        };
        Ok(Self {
            name,
            history,
            schema,
        })
    }
}
