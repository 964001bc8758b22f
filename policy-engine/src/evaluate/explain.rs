//! Why a request is decided as it is: for authors and operators, never for the ledger.
//!
//! The decision comes from [`Compiled::decide`] itself. What is told besides is asked of the same rules on the same request, in
//! the parts that their authors wrote. Everything is bounded and in a fixed order, and nothing is written.
//!
//! How near a permit of the slice was: by the number of its clauses that did not hold, then by its id. A clause is a part of
//! a `when` between two top-level `&&`, or of an `unless` between two top-level `||`; each is asked by itself. What `@approvers`
//! demands is a clause too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

use super::slices::{Needs, Place};
use super::temporal;
use crate::compile::{Compiled, Rule};
use crate::decision::{Decision, Reason, RuleId};
use crate::history::view::{Guarded, View};
use crate::history::{EventKind, Records, Starts};
use crate::json::Json;
use crate::limits::{
    MAX_EXPLAINED_CLAUSE_BYTES, MAX_EXPLAINED_CLAUSES, MAX_EXPLAINED_RULES, MAX_INPUT_BYTES,
    MAX_NEAREST_PERMITS,
};
use crate::request::Request;

mod clauses;
mod counted;
mod facts;

pub use counted::{Counted, Measure, Measured};
pub use facts::{FactRead, Voucher};

/// Why a request is decided as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What [`Compiled::decide`] says.
    pub decision: Decision,
    /// What there is to say where no rule was asked.
    pub note: Option<String>,
    /// The first determining rules, sorted; for an evaluation error, those that erred.
    pub determining: Vec<ExplainedRule>,
    /// The permits whose scope matches and that did not hold, nearest first, at most
    /// [`MAX_NEAREST_PERMITS`].
    pub nearest: Vec<ExplainedRule>,
    /// How many permits held.
    pub permits_held: usize,
    /// How many permits did not, although their scope matches.
    pub permits_failed: usize,
    /// How many permits are about something else.
    pub permits_elsewhere: usize,
    /// What the rules above read of the request, sorted by name.
    pub facts: Vec<FactRead>,
    /// What the rules above asked of the past, sorted by rule.
    pub history: Vec<Counted>,
}

/// A rule, clause by clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRule {
    /// Its id.
    pub id: RuleId,
    /// True for a permit.
    pub is_permit: bool,
    /// The file inside the bundle.
    pub path: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// How many clauses did not hold.
    pub failing: usize,
    /// Its clauses in their order; past [`MAX_EXPLAINED_CLAUSES`], the first that did not hold.
    pub clauses: Vec<Clause>,
}

/// A part of a rule's conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// True for a part of an `unless`: the clause holds if the text is false.
    pub is_unless: bool,
    /// As its author wrote it; cut short past [`MAX_EXPLAINED_CLAUSE_BYTES`].
    pub text: String,
    /// The line of the file on which it begins, from 1.
    pub line: usize,
    /// What came of it.
    pub result: ClauseResult,
}

/// What came of a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClauseResult {
    /// It let the rule apply.
    Holds,
    /// It kept the rule from applying.
    Fails,
    /// It could not be evaluated: why.
    Errs(String),
    /// A clause before it did not hold, so nobody asks it; by itself it errs, often because it relies on that clause.
    NotReached,
}

impl ClauseResult {
    /// Its name outside of this crate.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Holds => "HOLDS",
            Self::Fails => "FAILS",
            Self::Errs(_) => "ERRS",
            Self::NotReached => "NOT_REACHED",
        }
    }

    pub(crate) const fn is_failing(&self) -> bool {
        matches!(self, Self::Fails | Self::Errs(_))
    }
}

impl Explanation {
    /// The decision, without more.
    pub(crate) const fn bare(decision: Decision) -> Self {
        Self {
            decision,
            note: None,
            determining: Vec::new(),
            nearest: Vec::new(),
            permits_held: 0,
            permits_failed: 0,
            permits_elsewhere: 0,
            facts: Vec::new(),
            history: Vec::new(),
        }
    }
}

impl Compiled {
    /// Explains what [`Compiled::decide`] says of a request. Reads the past and never changes it.
    ///
    /// # Errors
    /// If the past cannot be read.
    pub fn explain<R: Records>(
        &self,
        starts: &Starts,
        past: &R,
        request: &Request,
    ) -> Result<Explanation, R::Error> {
        let decision = self.decide(starts, past, request)?.decision;
        let bare = Explanation {
            note: self.note(request, decision.reason),
            ..Explanation::bare(decision.clone())
        };
        let records = Guarded::new(past);
        let explained = catch_unwind(AssertUnwindSafe(|| {
            let now_ns = temporal::time_ns(request.time_us)?;
            let past = if self.temporal_rules().is_empty() {
                View::empty(&records)
            } else {
                View::load(&records, now_ns).ok()?
            };
            self.explained(starts, &past, request, decision).ok()
        }));
        let explanation = explained.ok().flatten().unwrap_or(bare);
        records.into_error().map_or(Ok(explanation), Err)
    }

    /// Asks again, part by part; the error is why rules were never asked.
    fn explained(
        &self,
        starts: &Starts,
        past: &View<'_>,
        request: &Request,
        decision: Decision,
    ) -> Result<Explanation, Reason> {
        let input = self.typed_input(request)?;
        let asked =
            temporal::event(request, EventKind::Request, input).ok_or(Reason::EvaluationError)?;
        let case = self.case(starts, past, request, asked)?;
        let satisfied = self.satisfied(&case, request.approval.as_ref(), &case.slice)?;
        // All of the context: rules read more of it than their bodies do, through their temporal conditions.
        let whole = self.cedar_request(&case, request, &case.slice, Needs::ALL)?;
        let evaluator = Evaluator::new(whole, &case.entities, Extensions::all_available());
        let rules = self.rules_at(&case.slice).zip(case.slice.iter().copied());
        let mut slice: Vec<(&Rule, Place)> = rules.collect();
        slice.sort_unstable_by_key(|(rule, _)| &rule.id);
        let permits = || slice.iter().filter(|(rule, _)| rule.is_permit);
        // The order of the ids is kept among those that are equally near.
        let mut failed: Vec<(usize, (&Rule, Place))> = permits()
            .filter(|(_, place)| !satisfied.permits.contains(place))
            .map(|told| {
                let clauses = self.clauses(*told, request, &evaluator);
                (failing(&clauses), *told)
            })
            .collect();
        failed.sort_by_key(|(failing, _)| *failing);
        let permits_failed = failed.len();
        let near: Vec<(&Rule, Place)> = failed
            .into_iter()
            .map(|(_, told)| told)
            .take(MAX_NEAREST_PERMITS)
            .collect();
        let determining: Vec<(&Rule, Place)> = slice
            .iter()
            .filter(|(rule, _)| decision.rules.binary_search(&rule.id).is_ok())
            .take(MAX_EXPLAINED_RULES)
            .copied()
            .collect();
        let explain = |of: &[(&Rule, Place)]| {
            of.iter()
                .map(|told| self.explained_rule(*told, request, &evaluator))
                .collect()
        };
        let mut told: Vec<(&Rule, Place)> = determining.iter().chain(&near).copied().collect();
        told.sort_unstable_by_key(|(rule, _)| &rule.id);
        told.dedup_by_key(|(_, place)| *place);
        let all_permits = self.rules().iter().filter(|rule| rule.is_permit).count();
        Ok(Explanation {
            note: None,
            determining: explain(&determining),
            nearest: explain(&near),
            permits_held: satisfied.permits.len(),
            permits_failed,
            permits_elsewhere: all_permits.saturating_sub(permits().count()),
            facts: facts::read(self, request, &told, &evaluator),
            history: counted::history(self, &case, &told, &evaluator),
            decision,
        })
    }

    /// The clauses of a rule: first what its `@approvers` demands, if it has any, then its conditions.
    fn clauses(
        &self,
        (rule, place): (&Rule, Place),
        request: &Request,
        on: &Evaluator<'_>,
    ) -> Vec<Clause> {
        let policy = self.slices().policy(place);
        let parts = policy.map(clauses::parts).unwrap_or_default();
        let results = clauses::results(&parts, on);
        let conditions = parts.iter().zip(results);
        clauses::approval(rule, request.approval.as_ref())
            .into_iter()
            .chain(conditions.map(|(part, result)| part.told(result)))
            .collect()
    }

    fn explained_rule(
        &self,
        told: (&Rule, Place),
        request: &Request,
        on: &Evaluator<'_>,
    ) -> ExplainedRule {
        let mut clauses = self.clauses(told, request, on);
        let failing = failing(&clauses);
        if clauses.len() > MAX_EXPLAINED_CLAUSES {
            clauses.retain(|clause| clause.result != ClauseResult::Holds);
            clauses.truncate(MAX_EXPLAINED_CLAUSES);
        }
        let (rule, _) = told;
        ExplainedRule {
            id: rule.id.clone(),
            is_permit: rule.is_permit,
            path: rule.source.path.clone(),
            line: rule.source.line,
            failing,
            clauses,
        }
    }

    /// Why no rule was asked, as far as the reason does not say it.
    fn note(&self, request: &Request, reason: Reason) -> Option<String> {
        let note = match reason {
            Reason::UnknownAction => "the bundle's schema has no action of that name".to_owned(),
            Reason::SchemaMismatch => {
                let schema = self.shapes().get(&request.action)?;
                match Json::parse(&request.input, MAX_INPUT_BYTES) {
                    Err(error) => format!("the arguments are not strict JSON: {error}"),
                    Ok(json) => match schema.input.map(&json) {
                        Err(mismatch) => format!("the arguments do not fit the schema: {mismatch}"),
                        Ok(_) => "the session or the resource does not fit the schema".to_owned(),
                    },
                }
            }
            Reason::HistoryLimit => {
                "the history has no room for another verdict until older events expire".to_owned()
            }
            Reason::EvaluationError => "the rules could not be evaluated".to_owned(),
            Reason::AllowedByPolicy
            | Reason::NoMatchingPermit
            | Reason::ForbiddenByPolicy
            | Reason::ApprovalRequired => return None,
        };
        Some(shortened(&note, MAX_EXPLAINED_CLAUSE_BYTES))
    }
}

/// How many of the clauses do not hold.
fn failing(clauses: &[Clause]) -> usize {
    let results = clauses.iter().map(|clause| &clause.result);
    results.filter(|result| result.is_failing()).count()
}

/// The text, or so many bytes of it at most and a mark that it goes on.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
