//! A rule's conditions in the parts that its author wrote, and what comes of each.

use cedar_policy_core::ast::{Expr, ExprKind, Literal, Policy, SlotEnv, UnaryOp};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::parser::Loc;

use super::super::slices::truth;
use super::{Clause, ClauseResult, shortened};
use crate::compile::Rule;
use crate::limits::MAX_EXPLAINED_CLAUSE_BYTES;
use crate::request::Approval;
use crate::text::line_at;

/// A clause, as the policy has it.
pub(super) struct Part<'p> {
    expr: &'p Expr,
    is_unless: bool,
    env: &'p SlotEnv,
}

/// The clauses of a policy, in their order; none if it has no conditions.
pub(super) fn parts(policy: &Policy) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    if let Some(body) = policy.non_scope_constraints() {
        split(policy, body, false, &mut parts);
    }
    parts
}

/// Dogwood's lowering joins the clauses of a rule by `&&`, and writes `unless` as `!`; what it adds stands where the whole
/// rule stands, and what the author wrote where it was written. What Cedar makes of one operator (`has a.b`, `is T in e`)
/// stands all in one place and is one clause. Of a chain every operator stands where the whole chain does, and operands where they
/// are themselves.
fn split<'p>(policy: &'p Policy, expr: &'p Expr, is_unless: bool, parts: &mut Vec<Part<'p>>) {
    let place = expr.source_loc();
    let is_added = place.is_some() && place == policy.loc();
    let kind = expr.expr_kind();
    if is_added && matches!(kind, ExprKind::Lit(Literal::Bool(true))) {
        return;
    }
    if is_added
        && let ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } = kind
    {
        return split(policy, arg, true, parts);
    }
    let is_or = matches!(kind, ExprKind::Or { .. });
    if let ExprKind::And { left, right } | ExprKind::Or { left, right } = kind
        && (is_added || (is_or == is_unless && place != right.source_loc()))
    {
        split(policy, left, is_unless, parts);
        split(policy, right, is_unless, parts);
        return;
    }
    parts.push(Part {
        expr,
        is_unless,
        env: policy.env(),
    });
}

/// What the rule's `@approvers` demands, as a clause; none if it demands nothing.
pub(super) fn approval(rule: &Rule, given: Option<&Approval>) -> Option<Clause> {
    if rule.approvers.is_empty() {
        return None;
    }
    let demanded: Vec<String> = rule
        .approvers
        .iter()
        .map(|approver| format!("{}:{}", approver.group, approver.count))
        .collect();
    let text = format!("@approvers({:?})", demanded.join(","));
    Some(Clause {
        is_unless: false,
        text: shortened(&text, MAX_EXPLAINED_CLAUSE_BYTES),
        line: rule.source.line,
        result: if rule.is_approved(given) {
            ClauseResult::Holds
        } else {
            ClauseResult::Fails
        },
    })
}

/// What comes of each clause. All are asked, so that a rule that is far from applying is told from one that is near.
pub(super) fn results(parts: &[Part<'_>], evaluator: &Evaluator<'_>) -> Vec<ClauseResult> {
    let mut is_reached = true;
    parts
        .iter()
        .map(|part| {
            let result = part.result(evaluator);
            let was_reached = is_reached;
            is_reached &= result == ClauseResult::Holds;
            if !was_reached && matches!(result, ClauseResult::Errs(_)) {
                ClauseResult::NotReached
            } else {
                result
            }
        })
        .collect()
}

impl Part<'_> {
    fn result(&self, evaluator: &Evaluator<'_>) -> ClauseResult {
        match evaluator.interpret(self.expr, self.env) {
            Err(error) => {
                ClauseResult::Errs(shortened(&error.to_string(), MAX_EXPLAINED_CLAUSE_BYTES))
            }
            Ok(value) => match truth(&value) {
                Some(value) if value != self.is_unless => ClauseResult::Holds,
                Some(_) => ClauseResult::Fails,
                None => ClauseResult::Errs("it is no boolean".to_owned()),
            },
        }
    }

    pub(super) fn told(&self, result: ClauseResult) -> Clause {
        let place = self.expr.source_loc();
        Clause {
            is_unless: self.is_unless,
            text: shortened(&written(self.expr), MAX_EXPLAINED_CLAUSE_BYTES),
            line: place.map_or(1, |place| line_at(&place.src, place.start())),
            result,
        }
    }
}

/// The text of an expression as its author wrote it.
pub(super) fn written(expr: &Expr) -> String {
    let place = expr.source_loc().and_then(Loc::snippet);
    place.map_or_else(|| expr.to_string(), |text| text.trim().to_owned())
}
