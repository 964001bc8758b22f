//! Rules that cannot matter: those that never match, permits that an unconditional forbid always beats, and actions that no
//! rule is about.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp};

use crate::bundle::Bundle;
use crate::compile::{Compiled, Rule};
use crate::diagnostic::Diagnostic;
use crate::evaluate::names::{AGENT, RESOURCE, uid};

/// How many actions a finding names before it only counts.
const NAMED: usize = 5;

/// A rule with what it can match.
struct Reach<'a> {
    rule: &'a Rule,
    policy: Policy,
    /// The actions that its scope holds for.
    actions: BTreeSet<&'a str>,
}

/// The warnings about rules that cannot matter.
pub(super) fn warnings(bundle: &Bundle, compiled: &Compiled) -> Vec<Diagnostic> {
    let rules: Vec<Reach<'_>> = compiled
        .rules()
        .iter()
        .zip(compiled.slices().policies())
        .map(|(rule, policy)| {
            let policy = Policy::from(policy.clone());
            let actions = actions(compiled, &policy.action_constraint());
            Reach {
                rule,
                policy,
                actions,
            }
        })
        .collect();
    let mut found: Vec<Diagnostic> = rules.iter().filter_map(never_matches).collect();
    found.extend(rules.iter().filter_map(|rule| shadowed(rule, &rules)));
    found.extend(without_rule(bundle, compiled, &rules));
    found
}

fn warn(rule: &Rule, message: String, mend: &str) -> Diagnostic {
    Diagnostic::warning(&rule.source.path, message, mend)
        .at_line(rule.source.line)
        .in_rule(&rule.id.0)
}

/// The actions of the schema that a scope holds for.
fn actions<'a>(compiled: &'a Compiled, constraint: &ActionConstraint) -> BTreeSet<&'a str> {
    let holds = |id: &str| {
        let action = compiled.facts().placed(uid(&compiled.names().action, id));
        match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(named) => action.uid == *named.as_ref(),
            ActionConstraint::In(groups) => groups.iter().any(|group| action.is_in(group.as_ref())),
        }
    };
    let ids = compiled.shapes().iter().map(|(id, _)| id);
    ids.filter(|id| holds(id)).collect()
}

fn never_matches(reach: &Reach<'_>) -> Option<Diagnostic> {
    let rule = reach.rule;
    if reach.actions.is_empty() {
        let message = "the rule can never match: no action that can be asked for is in its scope";
        return Some(warn(
            rule,
            message.to_owned(),
            "name actions of the schema, or remove the rule",
        ));
    }
    let policy: &cedar_policy_core::ast::Policy = reach.policy.as_ref();
    let what = contradiction(policy.non_scope_constraints()?)?;
    let message = format!("the rule can never match: {what}");
    Some(warn(
        rule,
        message,
        "join what may each be true with `||`, or split the rule",
    ))
}

/// What must hold of one value in a conjunction.
#[derive(Default)]
struct Demands<'a> {
    equal: BTreeSet<&'a Literal>,
    at_least: Option<i64>,
    at_most: Option<i64>,
}

/// Two parts of a conjunction, about the same value, that are never true together.
fn contradiction(condition: &Expr) -> Option<String> {
    let mut demands: BTreeMap<String, Demands<'_>> = BTreeMap::new();
    let mut parts = vec![condition];
    while let Some(part) = parts.pop() {
        let kind = part.expr_kind();
        if let ExprKind::And { left, right } = kind {
            parts.extend([left.as_ref(), right.as_ref()]);
        } else if let ExprKind::BinaryApp { op, arg1, arg2 } = kind {
            demand(&mut demands, *op, arg1, arg2, true);
        } else if let ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } = kind
            && let ExprKind::BinaryApp { op, arg1, arg2 } = arg.expr_kind()
        {
            demand(&mut demands, *op, arg1, arg2, false);
        }
    }
    demands.into_iter().find_map(|(value, demands)| {
        let equal: Vec<String> = demands.equal.iter().map(ToString::to_string).collect();
        if let [one, other, ..] = equal.as_slice() {
            return Some(format!("`{value}` cannot be {one} and {other} at once"));
        }
        let exact = match demands.equal.first() {
            Some(Literal::Long(exact)) => Some(*exact),
            _ => None,
        };
        let low = demands.at_least.max(exact)?;
        let high = match (demands.at_most, exact) {
            (Some(most), Some(exact)) => most.min(exact),
            (Some(bound), None) | (None, Some(bound)) => bound,
            (None, None) => return None,
        };
        (low > high)
            .then(|| format!("`{value}` cannot be at least {low} and at most {high} at once"))
    })
}

/// An attribute as authors write it; anything else as Cedar prints it.
fn written(expr: &Expr) -> String {
    if let ExprKind::GetAttr { expr, attr } = expr.expr_kind() {
        format!("{}.{attr}", written(expr))
    } else {
        expr.to_string()
    }
}

/// Adds a comparison of a value with a literal. `>` and `>=` reach us as the negations of `<=` and `<`.
fn demand<'a>(
    demands: &mut BTreeMap<String, Demands<'a>>,
    op: BinaryOp,
    left: &'a Expr,
    right: &'a Expr,
    holds: bool,
) {
    let literal = |expr: &'a Expr| {
        if let ExprKind::Lit(literal) = expr.expr_kind() {
            Some(literal)
        } else {
            None
        }
    };
    let (value, constant, is_left) = match (literal(left), literal(right)) {
        (None, Some(constant)) => (left, constant, true),
        (Some(constant), None) => (right, constant, false),
        _ => return,
    };
    let demand = demands.entry(written(value)).or_default();
    if op == BinaryOp::Eq {
        if holds {
            demand.equal.insert(constant);
        }
        return;
    }
    let (BinaryOp::Less | BinaryOp::LessEq, Literal::Long(bound)) = (op, constant) else {
        return;
    };
    // `value < bound` and its like: strict unless exactly one of "or equal" and "negated" holds.
    let is_upper = is_left == holds;
    let is_strict = (op == BinaryOp::Less) == holds;
    let step = i64::from(is_strict);
    if is_upper {
        let most = bound.saturating_sub(step);
        demand.at_most = Some(demand.at_most.map_or(most, |known| known.min(most)));
    } else {
        let least = bound.saturating_add(step);
        demand.at_least = demand.at_least.max(Some(least));
    }
}

/// A permit whose whole scope a forbid without conditions covers.
fn shadowed(permit: &Reach<'_>, rules: &[Reach<'_>]) -> Option<Diagnostic> {
    if permit.policy.effect() != Effect::Permit || permit.actions.is_empty() {
        return None;
    }
    let forbid = rules.iter().find(|forbid| {
        let policy: &cedar_policy_core::ast::Policy = forbid.policy.as_ref();
        forbid.policy.effect() == Effect::Forbid
            && policy.non_scope_constraints().is_none_or(is_true)
            && permit.actions.is_subset(&forbid.actions)
            && Who::principal(&forbid.policy).covers(&Who::principal(&permit.policy))
            && Who::resource(&forbid.policy).covers(&Who::resource(&permit.policy))
    })?;
    let message = format!(
        "the permit can never allow anything: the forbid `{}` at {}:{} has no conditions and always beats it",
        forbid.rule.id, forbid.rule.source.path, forbid.rule.source.line
    );
    let mend = "give the forbid a condition or a narrower scope, or remove the permit";
    Some(warn(permit.rule, message, mend))
}

fn is_true(condition: &Expr) -> bool {
    matches!(condition.expr_kind(), ExprKind::Lit(Literal::Bool(true)))
}

/// A scope of principals or resources. Each has one type in our schemas, so that `is` says nothing.
#[derive(PartialEq, Eq)]
enum Who {
    Any,
    Exactly(EntityUid),
    Inside(EntityUid),
    Nobody,
}

impl Who {
    fn principal(policy: &Policy) -> Self {
        let is = |name: &cedar_policy::EntityTypeName| name.to_string() == AGENT;
        match policy.principal_constraint() {
            PrincipalConstraint::Any => Self::Any,
            PrincipalConstraint::In(group) => Self::Inside(group),
            PrincipalConstraint::Eq(one) => Self::Exactly(one),
            PrincipalConstraint::Is(name) if is(&name) => Self::Any,
            PrincipalConstraint::IsIn(name, group) if is(&name) => Self::Inside(group),
            PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => Self::Nobody,
        }
    }

    fn resource(policy: &Policy) -> Self {
        let is = |name: &cedar_policy::EntityTypeName| name.to_string() == RESOURCE;
        match policy.resource_constraint() {
            ResourceConstraint::Any => Self::Any,
            ResourceConstraint::In(parent) => Self::Inside(parent),
            ResourceConstraint::Eq(one) => Self::Exactly(one),
            ResourceConstraint::Is(name) if is(&name) => Self::Any,
            ResourceConstraint::IsIn(name, parent) if is(&name) => Self::Inside(parent),
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => Self::Nobody,
        }
    }

    /// True if whatever the other holds for, this does too. Who is in which group is only known with a request.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody, _) | (_, Self::Nobody) => false,
            (Self::Any, _) => true,
            (Self::Inside(group), Self::Exactly(one)) => group == one,
            _ => self == other,
        }
    }
}

/// The actions that no rule is about.
fn without_rule(bundle: &Bundle, compiled: &Compiled, rules: &[Reach<'_>]) -> Option<Diagnostic> {
    let about: BTreeSet<&str> = rules
        .iter()
        .flat_map(|rule| rule.actions.iter().copied())
        .collect();
    let ids = compiled.shapes().iter().map(|(id, _)| id);
    let left: Vec<&str> = ids.filter(|id| !about.contains(id)).collect();
    if left.is_empty() {
        return None;
    }
    let mut named: Vec<String> = left
        .iter()
        .take(NAMED)
        .map(|id| format!("`{}`", id.escape_debug()))
        .collect();
    if left.len() > NAMED {
        named.push(format!("{} more", left.len() - NAMED));
    }
    let message = format!(
        "no rule is about {}, so it is always denied",
        named.join(", ")
    );
    let mend = "write a permit, or a forbid that says that this is meant";
    Some(Diagnostic::warning(&bundle.schema().path, message, mend))
}
