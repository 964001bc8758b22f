//! A bundle: what an author writes, packed into canonical bytes and named by their digest.
//!
//! ```text
//! bundle.toml          name, history scope, and where the schema comes from
//! schema.cedarschema   a hand-written schema: the template and actions; or
//! manifest.json        what MCP's `tools/list` answers, from which the schema is generated
//! rules/**.cedar|.dw   rules
//! entities.json        trusted facts about resources and groups, in Cedar's entity format (optional)
//! tests/**.json        cases with expected verdicts (optional, see `cases`)
//! ```
//!
//! No other files: what nobody reads could only mislead those who review it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::limits::{MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES};
use crate::manifest::{self, Manifest};
use crate::schema::Shapes;

pub(crate) mod cases;
mod entities;
mod header;
mod pack;

pub use cases::{Case, Expectation, Step, StepKind};
use header::{Header, SchemaSource};

const HEADER: &str = "bundle.toml";
const ENTITIES: &str = "entities.json";

/// `BLAKE3` of a bundle's canonical bytes; the bundle's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleDigest(pub [u8; 32]);

impl fmt::Debug for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleDigest({self})")
    }
}

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whose past a bundle's rules read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryScope {
    /// The agent's own, across its sessions.
    Agent,
    /// One session's.
    Session,
    /// Everything done on behalf of one subject.
    Subject,
    /// Everything done by agents of one owner.
    Owner,
    /// Everything done in the namespace.
    Namespace,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path inside the bundle, with `/` between folders.
    pub path: String,
    /// UTF-8 text.
    pub text: String,
}

/// A bundle whose files are all present and well-formed; its rules are not yet compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    name: String,
    history: HistoryScope,
    /// All files, sorted by path.
    files: Vec<SourceFile>,
    schema: SourceFile,
    shapes: Shapes,
    cases: Vec<Case>,
    warnings: Vec<Diagnostic>,
}

impl Bundle {
    /// Reads a bundle from its files, by path.
    ///
    /// # Errors
    /// All findings of severity `Error`, and with them the warnings: too many or too large files, a bad path, a file that
    /// does not belong, and whatever is wrong with `bundle.toml`, the schema, `entities.json` or the tests. Rules are only
    /// carried here; compiling checks them.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Result<Self, Vec<Diagnostic>> {
        let files = read_files(files)?;
        let header = Header::parse(find(&files, HEADER).map_or("", |file| &file.text))?;
        let mut findings = check_places(&files, &header);
        let (schema, warnings) = read_schema(&files, &header.schema)?;
        let shapes = Shapes::from_cedarschema(&schema.path, &schema.text)?;
        if let Some(file) = find(&files, ENTITIES)
            && let Err(finding) = entities::read(file, &schema.text)
        {
            findings.push(finding);
        }
        let mut cases = Vec::new();
        for file in files.iter().filter(|file| file.path.starts_with("tests/")) {
            match cases::read(file) {
                Ok(read) => cases.extend(read),
                Err(finding) => findings.push(finding),
            }
        }
        if !findings.is_empty() {
            findings.extend(warnings);
            return Err(findings);
        }
        let Header { name, history, .. } = header;
        Ok(Self {
            name,
            history,
            files,
            schema,
            shapes,
            cases,
            warnings,
        })
    }

    /// The bundle's name, for people; only its digest identifies it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose past its rules read.
    pub fn history(&self) -> HistoryScope {
        self.history
    }

    /// All files, sorted by path.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The file at a path.
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        find(&self.files, path)
    }

    /// The files that hold rules, sorted by path.
    pub fn rules(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| is_rules(&file.path))
    }

    /// The schema: the hand-written file, or the text generated from manifests under the path of the first.
    pub fn schema(&self) -> &SourceFile {
        &self.schema
    }

    /// The types of its actions.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The trusted facts of `entities.json`, and the schema's actions with their groups.
    ///
    /// # Errors
    /// Never for a bundle that was read: reading checked them.
    pub fn entities(&self) -> Result<cedar_policy::Entities, Diagnostic> {
        let nothing = SourceFile {
            path: ENTITIES.to_owned(),
            text: "[]".to_owned(),
        };
        entities::read(self.file(ENTITIES).unwrap_or(&nothing), &self.schema.text)
    }

    /// The test cases, in the order of their files.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// What its author should know although it can be published.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

fn find<'a>(files: &'a [SourceFile], path: &str) -> Option<&'a SourceFile> {
    let index = files
        .binary_search_by(|file| file.path.as_str().cmp(path))
        .ok()?;
    files.get(index)
}

fn is_rules(path: &str) -> bool {
    path.starts_with("rules/") && (path.ends_with(".cedar") || path.ends_with(".dw"))
}

/// Checks paths, sizes and encoding.
fn read_files(files: BTreeMap<String, Vec<u8>>) -> Result<Vec<SourceFile>, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    if files.len() > MAX_BUNDLE_FILES {
        let message = format!("the bundle has more than {MAX_BUNDLE_FILES} files");
        findings.push(Diagnostic::error(HEADER, message, "join rule files"));
    }
    if pack::size(
        files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice())),
    ) > MAX_BUNDLE_BYTES
    {
        let message = format!("the bundle is larger than {MAX_BUNDLE_BYTES} bytes");
        findings.push(Diagnostic::error(
            HEADER,
            message,
            "split it into bundles of several namespaces",
        ));
    }
    let mut read = Vec::new();
    for (path, bytes) in files {
        if !pack::is_valid_path(&path) {
            let message = "the path is not made of letters, digits, `.`, `_` and `-`, with `/` between folders";
            findings.push(Diagnostic::error(
                path.escape_debug().to_string(),
                message,
                "rename the file",
            ));
            continue;
        }
        match String::from_utf8(bytes) {
            Ok(text) => read.push(SourceFile { path, text }),
            Err(_) => findings.push(Diagnostic::error(
                path,
                "the file is not UTF-8",
                "save it as UTF-8",
            )),
        }
    }
    if find(&read, HEADER).is_none() {
        findings.push(Diagnostic::error(
            HEADER,
            "the file is missing",
            "add it with `name`, `history` and `schema`",
        ));
    }
    if findings.is_empty() {
        Ok(read)
    } else {
        Err(findings)
    }
}

/// Finds files that nothing reads.
fn check_places(files: &[SourceFile], header: &Header) -> Vec<Diagnostic> {
    let named: BTreeSet<&str> = match &header.schema {
        SchemaSource::Text(path) => BTreeSet::from([path.as_str()]),
        SchemaSource::Manifests(manifests) => manifests.iter().map(|m| m.file.as_str()).collect(),
    };
    let is_known = |path: &str| {
        path == HEADER
            || path == ENTITIES
            || named.contains(path)
            || is_rules(path)
            || (path.starts_with("tests/") && path.ends_with(".json"))
    };
    files
        .iter()
        .filter(|file| !is_known(&file.path))
        .map(|file| {
            Diagnostic::error(
                file.path.clone(),
                "nothing reads this file",
                "put rules into rules/*.cedar or rules/*.dw and tests into tests/*.json, or remove it",
            )
        })
        .collect()
}

/// Finds or generates the schema; also says what was generated differently than its author may think.
fn read_schema(
    files: &[SourceFile],
    source: &SchemaSource,
) -> Result<(SourceFile, Vec<Diagnostic>), Vec<Diagnostic>> {
    let missing = |path: &str| {
        let message = format!("`{HEADER}` names this file, but the bundle has none");
        vec![Diagnostic::error(
            path,
            message,
            "add it, or correct the path",
        )]
    };
    let manifests = match source {
        SchemaSource::Text(path) => {
            let file = find(files, path).ok_or_else(|| missing(path))?;
            return Ok((file.clone(), Vec::new()));
        }
        SchemaSource::Manifests(manifests) => manifests,
    };
    let mut parsed = Vec::new();
    for header::ManifestSource { server, file } in manifests {
        let text = &find(files, file).ok_or_else(|| missing(file))?.text;
        let json = Json::parse(text.as_bytes(), MAX_BUNDLE_BYTES).map_err(|error| {
            let finding = Diagnostic::error(file, error.to_string(), "write strict JSON");
            vec![finding.at_line(error.line())]
        })?;
        parsed.push(Manifest {
            file,
            server: server.as_deref(),
            json,
        });
    }
    let path = manifests
        .first()
        .map_or_else(String::new, |first| first.file.clone());
    let (text, warnings) = manifest::to_cedarschema(&parsed)?;
    Ok((SourceFile { path, text }, warnings))
}

#[cfg(test)]
mod tests;
