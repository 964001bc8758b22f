//! How deep a rule's expressions stand inside each other.
//!
//! Cedar evaluates by recursion and errs when its stack runs low. How low it is depends on the machine, and decisions must not: so
//! no rule may be deep enough to find out.

use cedar_policy::Policy;
use cedar_policy_core::ast::{self, Expr};

use crate::evaluate::slices::children;

/// The depth of a policy's conditions. Recursive: runs on the guarded thread.
pub(super) fn of(policy: &Policy) -> usize {
    let policy: &ast::Policy = policy.as_ref();
    policy.non_scope_constraints().map_or(0, depth)
}

fn depth(expr: &Expr) -> usize {
    let inside = children(expr).into_iter();
    1 + inside.map(depth).max().unwrap_or(0)
}
