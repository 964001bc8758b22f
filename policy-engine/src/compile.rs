//! A bundle, checked once and ready to decide.
//!
//! Everything that can be known before the first request is found out here, at publish: whether the rules parse, whether they
//! are sound under the schema, what each rule is called, what it reads of the past. A bundle that compiles can only surprise
//! through its data.

use crate::bundle::{Bundle, BundleDigest, HistoryScope};
use crate::decision::RuleId;
use crate::diagnostic::Diagnostic;
use crate::history::TemporalRule;

/// Where a rule stands in its bundle, so that evidence can show the text that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSource {
    /// The file inside the bundle.
    pub path: String,
    /// The line on which the rule begins, from 1.
    pub line: usize,
    /// The rule as its author wrote it, annotations included.
    pub text: String,
}

/// A bundle whose rules are sound: decides requests and types the outcomes of what it allowed.
#[derive(Debug)]
pub struct Compiled {
    digest: BundleDigest,
    history: HistoryScope,
    temporal: Vec<TemporalRule>,
    warnings: Vec<Diagnostic>,
}

impl Compiled {
    /// Checks everything that can be checked without a request.
    ///
    /// # Errors
    ///
    /// Every finding that keeps the bundle from being published, sorted by file and line.
    pub fn compile(bundle: &Bundle) -> Result<Self, Vec<Diagnostic>> {
        let _ = bundle;
        Err(Vec::new())
    }

    /// The digest of the bundle this was compiled from.
    pub fn digest(&self) -> BundleDigest {
        self.digest
    }

    /// Whose past the rules read.
    pub fn history_scope(&self) -> HistoryScope {
        self.history
    }

    /// The rules that read the past, sorted by id.
    pub fn temporal_rules(&self) -> &[TemporalRule] {
        &self.temporal
    }

    /// Where the rule stands in the bundle, if the bundle has it.
    pub fn rule_source(&self, id: &RuleId) -> Option<&RuleSource> {
        let _ = id;
        None
    }

    /// What works, but probably not as the author thinks.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}
