//! A bundle, checked once and ready to decide.
//!
//! Everything that can be known before the first request is found out here, at publish: whether the rules parse, whether they
//! are sound under the schema, what each rule is called, what it reads of the past. A bundle that compiles can only surprise
//! through its data.

use std::collections::BTreeMap;

use cedar_policy::Schema;

use crate::bundle::{Bundle, BundleDigest, HistoryScope};
use crate::check;
use crate::decision::RuleId;
use crate::diagnostic::Diagnostic;
use crate::evaluate::entities::Facts;
use crate::evaluate::names::Names;
use crate::evaluate::slices::{Place, Slices};
use crate::history::TemporalRule;
use crate::history::reads::Reads;
use crate::history::tracking::Tracking;
use crate::schema::Shapes;

mod annotations;
mod depth;
mod fingerprint;
mod guard;
mod lower;
mod rules;
mod validate;

pub(crate) use rules::Rule;

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
    shapes: Shapes,
    names: Names,
    slices: Slices,
    /// The bundle's schema with a boolean in the context for each temporal condition.
    schema: Schema,
    facts: Facts,
    /// By the places that the slices give them.
    rules: Vec<Rule>,
    temporal: Vec<TemporalRule>,
    tracking: Tracking,
    warnings: Vec<Diagnostic>,
}

/// The system had no thread to compile on. It says nothing about the bundle: another machine, or this one a moment later,
/// may compile it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoThread;

impl Compiled {
    /// Checks everything that can be checked without a request.
    ///
    /// # Errors
    ///
    /// Every finding that keeps the bundle from being published, sorted by file and line.
    pub fn compile(bundle: &Bundle) -> Result<Self, Vec<Diagnostic>> {
        Self::try_compile(bundle).unwrap_or_else(|NoThread| {
            let message = "the system has no thread to compile on";
            let mend = "free some memory or raise the limit of threads, and try again";
            Err(vec![Diagnostic::error("rules", message, mend)])
        })
    }

    /// The same for replicas: what only this machine lacks is never taken for a finding.
    ///
    /// # Errors
    ///
    /// [`NoThread`]; the inner error is every finding that keeps the bundle from being published.
    pub fn try_compile(bundle: &Bundle) -> Result<Result<Self, Vec<Diagnostic>>, NoThread> {
        let owned = bundle.clone();
        let compiled = match guard::on_large_stack(move || compile(&owned)) {
            Ok(compiled) => compiled,
            Err(guard::Failed::NoThread) => return Err(NoThread),
            Err(guard::Failed::Panicked) => {
                let message = "the compiler failed on these rules";
                let mend = "simplify the rules that were changed last";
                Err(vec![Diagnostic::error("rules", message, mend)])
            }
        };
        Ok(compiled.map_err(|mut findings| {
            findings.sort_unstable();
            findings.dedup();
            findings
        }))
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
        let rule = self.rules.iter().find(|rule| rule.id == *id);
        rule.map(|rule| &rule.source)
    }

    /// What works, but probably not as the author thinks.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    pub(crate) fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn slices(&self) -> &Slices {
        &self.slices
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What stepping keeps of an event for these rules.
    pub(crate) fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// All rules, by place.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules at those places.
    pub(crate) fn rules_at<'a>(&'a self, places: &[Place]) -> impl Iterator<Item = &'a Rule> {
        places.iter().filter_map(|place| self.rules.get(*place))
    }

    /// What each rule that reads the past reads of it.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &Reads> {
        self.rules
            .iter()
            .filter_map(|rule| rule.past.as_ref())
            .map(|past| &past.reads)
    }
}

fn compile(bundle: &Bundle) -> Result<Compiled, Vec<Diagnostic>> {
    let lowered = lower::lower(bundle)?;
    let schema_finding = |error: &dyn std::fmt::Display| {
        let message = lower::told(&error.to_string());
        vec![Diagnostic::error(
            &bundle.schema().path,
            message,
            "mend the schema",
        )]
    };
    let names = Names::new().map_err(|error| schema_finding(&error))?;
    let entities = bundle.entities().map_err(|finding| vec![finding])?;
    let mut rules = rules::read(bundle, &lowered)?;
    let policies = lowered.set.as_cedar();
    let mut warnings = lowered.warnings;
    warnings.extend(bundle.warnings().iter().cloned());
    warnings.extend(check::warnings(policies, &rules));
    warnings.sort_unstable();
    let temporal = temporal_rules(&rules);
    let tracking = rules::tracking(&rules);
    let (policies, rules): (Vec<&cedar_policy::Policy>, Vec<Rule>) = policies
        .policies()
        .filter_map(|policy| Some((policy, rules.remove(AsRef::<str>::as_ref(policy.id()))?)))
        .unzip();
    Ok(Compiled {
        digest: bundle.digest(),
        history: bundle.history(),
        shapes: bundle.shapes().clone(),
        names,
        slices: Slices::of(policies.into_iter().map(AsRef::as_ref)),
        schema: lowered.set.cedar_schema().clone(),
        facts: Facts::new(&entities),
        temporal,
        tracking,
        rules,
        warnings,
    })
}

fn temporal_rules(rules: &BTreeMap<String, Rule>) -> Vec<TemporalRule> {
    let mut temporal: Vec<_> = rules
        .values()
        .filter_map(|rule| {
            let past = rule.past.as_ref()?;
            let window_s = u64::try_from(past.reads.reach_s).unwrap_or(0);
            Some(TemporalRule {
                id: rule.id.clone(),
                fingerprint: past.fingerprint,
                window_us: window_s.saturating_mul(1_000_000),
            })
        })
        .collect();
    temporal.sort_unstable_by(|left, right| left.id.cmp(&right.id));
    temporal
}

#[cfg(test)]
mod tests;
