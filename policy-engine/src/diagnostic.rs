//! What is wrong with a bundle, where, and how to mend it.

use std::fmt;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The bundle cannot be published.
    Error,
    /// The bundle works, but probably not as its author thinks.
    Warning,
}

/// One finding about a bundle: file, line, rule, what is wrong, and the mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file inside the bundle, with `/` between folders.
    pub file: String,
    /// The line, from 1; none when the finding is about the whole file.
    pub line: Option<usize>,
    /// The `@id` of the rule, when the finding is about one.
    pub rule: Option<String>,
    /// Whether the bundle can still be published.
    pub severity: Severity,
    /// One lowercase sentence without a period: what is wrong.
    pub message: String,
    /// One lowercase sentence without a period: what to do about it.
    pub mend: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(match self.severity {
            Severity::Error => ": error",
            Severity::Warning => ": warning",
        })?;
        if let Some(rule) = &self.rule {
            write!(f, " in rule `{rule}`")?;
        }
        write!(f, ": {}; {}", self.message, self.mend)
    }
}
