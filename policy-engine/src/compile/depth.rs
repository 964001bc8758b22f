//! How deep a rule's expressions stand inside each other.
//!
//! Cedar evaluates by recursion and errs when its stack runs low. How low it is depends on the machine, and decisions must not: so
//! no rule may be deep enough to find out.

use cedar_policy::Policy;
use cedar_policy_core::ast::{self, Expr, ExprKind};

/// The depth of a policy's conditions. Recursive: runs on the guarded thread.
pub(super) fn of(policy: &Policy) -> usize {
    let policy: &ast::Policy = policy.as_ref();
    policy.non_scope_constraints().map_or(0, depth)
}

fn depth(expr: &Expr) -> usize {
    let inside: Vec<&Expr> = match expr.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {
            Vec::new()
        }
        ExprKind::If {
            test_expr,
            then_expr,
            else_expr,
        } => vec![test_expr, then_expr, else_expr],
        ExprKind::And { left, right } | ExprKind::Or { left, right } => vec![left, right],
        ExprKind::BinaryApp { arg1, arg2, .. } => vec![arg1, arg2],
        ExprKind::UnaryApp { arg, .. } => vec![arg],
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::Like { expr, .. }
        | ExprKind::Is { expr, .. } => vec![expr],
        ExprKind::ExtensionFunctionApp { args, .. } => args.iter().collect(),
        ExprKind::Set(elements) => elements.iter().collect(),
        ExprKind::Record(fields) => fields.values().collect(),
    };
    1 + inside.into_iter().map(depth).max().unwrap_or(0)
}
