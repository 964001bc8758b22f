//! What rules asked of the past, and what there was.

use cedar_policy_core::ast::{Expr, ExprKind, SlotEnv, Var};
use cedar_policy_core::evaluator::Evaluator;

use super::super::Case;
use super::super::slices::{Place, truth};
use super::super::temporal;
use super::clauses::written;
use super::shortened;
use crate::compile::{Compiled, Rule};
use crate::decision::RuleId;
use crate::history::reads::Reads;
use crate::limits::{MAX_EXPLAINED_CLAUSE_BYTES, MAX_EXPLAINED_HISTORY};

/// A temporal condition, and what it counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The rule whose condition it is.
    pub rule: RuleId,
    /// The condition as its author wrote it, cut short if it is long.
    pub text: String,
    /// How far back it looks, in seconds; windows inside windows add up.
    pub reach_s: u64,
    /// Whether it holds.
    pub holds: bool,
    /// What it counted, in the order of its text; empty where only replaying the events can tell.
    pub measured: Vec<Measured>,
}

/// One count, sum or last event of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The action of the events.
    pub action: String,
    /// Their kind: `request`, `allowed`, `denied`, `response` or `error`.
    pub event: &'static str,
    /// How far back, in seconds.
    pub window_s: u64,
    /// The figure.
    pub measure: Measure,
}

/// A figure over the events of a window. The request at hand counts where it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// When the last one came, in microseconds since 1970; none if there was none in the window.
    Last(Option<u64>),
    /// How many there were.
    Count(i64),
    /// The sum of a field of theirs.
    Sum(i64),
    /// How many different values a field of theirs had.
    Distinct(i64),
}

impl Measure {
    /// Its name outside of this crate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last(_) => "LAST",
            Self::Count(_) => "COUNT",
            Self::Sum(_) => "SUM",
            Self::Distinct(_) => "DISTINCT",
        }
    }

    /// The figure; none if there was no last event.
    pub fn value(self) -> Option<i64> {
        match self {
            Self::Last(us) => us.and_then(|us| i64::try_from(us).ok()),
            Self::Count(number) | Self::Sum(number) | Self::Distinct(number) => Some(number),
        }
    }
}

/// What these rules asked of the past, in their order.
pub(super) fn history(
    compiled: &Compiled,
    case: &Case<'_>,
    rules: &[(&Rule, Place)],
    evaluator: &Evaluator<'_>,
) -> Vec<Counted> {
    let mut history = Vec::new();
    for (rule, place) in rules {
        let Some(past) = &rule.past else {
            continue;
        };
        let body = compiled.slices().policy(*place);
        let body = body.and_then(|policy| policy.non_scope_constraints());
        for leaf in &past.leaves {
            if history.len() == MAX_EXPLAINED_HISTORY {
                return history;
            }
            let field = leaf.field.id.as_str();
            let stands = body.and_then(|body| body.subexpressions().find(|at| is_field(at, field)));
            let value = stands.and_then(|at| evaluator.interpret(at, &SlotEnv::new()).ok());
            let mut reads = Reads::default();
            reads.add(&leaf.field.condition.condition);
            history.push(Counted {
                rule: rule.id.clone(),
                text: shortened(
                    &stands.map(written).unwrap_or_default(),
                    MAX_EXPLAINED_CLAUSE_BYTES,
                ),
                reach_s: u64::try_from(reads.reach_s).unwrap_or(0),
                holds: value.and_then(|value| truth(&value)).unwrap_or(false),
                measured: leaf
                    .plan
                    .as_ref()
                    .map(|plan| temporal::measured(compiled, case, past.fingerprint, plan))
                    .unwrap_or_default(),
            });
        }
    }
    history
}

/// True for the part of a body that stands for a temporal condition.
fn is_field(expr: &Expr, field: &str) -> bool {
    matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr }
        if attr == field && matches!(expr.expr_kind(), ExprKind::Var(Var::Context)))
}
