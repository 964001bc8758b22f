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

impl Diagnostic {
    /// A finding that keeps the bundle from being published.
    pub(crate) fn error(
        file: impl Into<String>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            line: None,
            rule: None,
            severity: Severity::Error,
            message: message.into(),
            mend: mend.into(),
        }
    }

    /// A finding that the bundle can be published with.
    pub(crate) fn warning(
        file: impl Into<String>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(file, message, mend)
        }
    }

    /// The same finding, about one line (from 1).
    pub(crate) fn at_line(self, line: impl Into<Option<usize>>) -> Self {
        Self {
            line: line.into(),
            ..self
        }
    }

    /// The same finding, about one rule.
    pub(crate) fn in_rule(self, id: impl Into<String>) -> Self {
        Self {
            rule: Some(id.into()),
            ..self
        }
    }
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
