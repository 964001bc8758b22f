//! Permits that an agent's own word can satisfy.
//!
//! A condition can be met in several ways: `a && b || c` by `a` and `b`, or by `c`. Of each way it is asked whether it rests on
//! something that the agent itself says or does, and whether on something that somebody else vouches for: an operator or a gateway, not
//! the bundle's bounds on who may ask for what. A way with the one and without the other is the agent's to take.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};
use dogwood_language::temporal_ast::{Condition, ConditionKind};

use crate::compile::Rule;
use crate::history::EventKind;
use crate::history::reads::Reads;

/// The agent's own words that satisfy the permit without anybody else's; none if they do not.
pub(super) fn of(rule: &Rule, policy: &Policy) -> Option<String> {
    if !rule.is_permit || !rule.approvers.is_empty() {
        return None;
    }
    let policy: &cedar_policy_core::ast::Policy = policy.as_ref();
    let mut reader = Reader {
        rule,
        said: BTreeSet::new(),
    };
    let ways = reader.ways(policy.non_scope_constraints()?);
    let said: Vec<String> = reader.said.into_iter().collect();
    ways.holds.has_own_word_alone().then(|| said.join(", "))
}

/// The ways to meet a condition, told apart by what they rest on: a set of up to four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways(u8);

impl Ways {
    const NONE: Self = Self(0);
    /// One way, which rests on neither.
    const PLAIN: Self = Self::one(false, false);
    const OWN_WORD: Self = Self::one(true, false);
    const VOUCHED: Self = Self::one(false, true);

    const fn one(own_word: bool, vouched: bool) -> Self {
        Self(1 << (own_word as u8 | (vouched as u8) << 1))
    }

    /// Either of two conditions.
    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Both of two conditions: each way of the one with each of the other.
    fn and(self, other: Self) -> Self {
        let mut both = 0;
        for left in (0..4).filter(|left| self.0 & (1 << left) != 0) {
            for right in (0..4).filter(|right| other.0 & (1 << right) != 0) {
                both |= 1 << (left | right);
            }
        }
        Self(both)
    }

    const fn has_own_word_alone(self) -> bool {
        self.0 & Self::OWN_WORD.0 != 0
    }
}

/// The ways to make a condition true, and those to make it false.
#[derive(Debug, Clone, Copy)]
struct Both {
    holds: Ways,
    fails: Ways,
}

impl Both {
    const PLAIN: Self = Self {
        holds: Ways::PLAIN,
        fails: Ways::PLAIN,
    };
    /// Of what the agent says or leaves unsaid.
    const OWN_WORD: Self = Self {
        holds: Ways::OWN_WORD,
        fails: Ways::OWN_WORD,
    };
    /// Of what nobody but another makes true, and is false of itself.
    const VOUCHED: Self = Self {
        holds: Ways::VOUCHED,
        fails: Ways::PLAIN,
    };

    const fn not(self) -> Self {
        Self {
            holds: self.fails,
            fails: self.holds,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            holds: self.holds.and(other.holds),
            fails: self.fails.or(other.fails),
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

struct Reader<'a> {
    rule: &'a Rule,
    /// What of the agent's own was met on the way.
    said: BTreeSet<String>,
}

impl Reader<'_> {
    /// Recursive, as deep as rules may be, and once over each expression.
    fn ways(&mut self, expr: &Expr) -> Both {
        let kind = expr.expr_kind();
        if let ExprKind::And { left, right } = kind {
            return self.ways(left).and(self.ways(right));
        }
        if let ExprKind::Or { left, right } = kind {
            return self.ways(left).or(self.ways(right));
        }
        if let ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } = kind
        {
            return self.ways(arg).not();
        }
        if let ExprKind::If {
            test_expr,
            then_expr,
            else_expr,
        } = kind
        {
            let (test, then) = (self.ways(test_expr), self.ways(then_expr));
            let otherwise = self.ways(else_expr);
            return test.and(then).or(test.not().and(otherwise));
        }
        if let ExprKind::Lit(Literal::Bool(value)) = kind {
            let is_true = Both {
                holds: Ways::PLAIN,
                fails: Ways::NONE,
            };
            return if *value { is_true } else { is_true.not() };
        }
        self.temporal(expr).unwrap_or_else(|| self.comparison(expr))
    }

    /// The boolean that stands for a condition over the past.
    fn temporal(&mut self, expr: &Expr) -> Option<Both> {
        let [name]: [&str; 1] = path(expr)?.try_into().ok()?;
        let rule = self.rule;
        let mut leaves = rule.past.iter().flat_map(|past| &past.leaves);
        let leaf = leaves.find(|leaf| leaf.field.id == name)?;
        Some(self.past(&leaf.field.condition.condition))
    }

    /// A condition over the past: what a gateway recorded counts as vouched for, what the agent reported as its word, and that
    /// something was asked for, allowed or denied as neither.
    fn past(&mut self, condition: &Condition) -> Both {
        match &condition.kind {
            ConditionKind::And { left, right } => self.past(left).and(self.past(right)),
            ConditionKind::Or { left, right } => self.past(left).or(self.past(right)),
            ConditionKind::Not { inner } => self.past(inner).not(),
            ConditionKind::Formerly { body: inner, .. }
            | ConditionKind::Previous { body: inner, .. }
            | ConditionKind::Exists { body: inner, .. } => self.past(inner),
            ConditionKind::Since { left, right, .. } => {
                // Right after what is on the right, nothing has to hold on the left; then it has to, again and again.
                let (kept, begun) = (self.past(left), self.past(right));
                Both {
                    holds: begun.holds.or(begun.holds.and(kept.holds)),
                    fails: begun.fails.or(kept.fails),
                }
            }
            ConditionKind::Predicate(predicate) => match EventKind::from_name(&predicate.kind) {
                Some(EventKind::Response | EventKind::Error) => Both::VOUCHED,
                Some(EventKind::SelfReportedResponse | EventKind::SelfReportedError) => {
                    self.own(&format!("`::{}` events", predicate.kind))
                }
                Some(EventKind::Request | EventKind::Allowed | EventKind::Denied) | None => {
                    Both::PLAIN
                }
            },
            ConditionKind::Comparison { .. }
            | ConditionKind::Tp { .. }
            | ConditionKind::Call(_)
            | ConditionKind::SigilRef { .. }
            | ConditionKind::Refine { .. } => {
                let mut reads = Reads::default();
                reads.add(condition);
                let kinds: BTreeSet<EventKind> =
                    reads.topics.keys().map(|(_, kind)| *kind).collect();
                let mut reported = kinds.into_iter().filter(|kind| {
                    matches!(
                        kind,
                        EventKind::SelfReportedResponse | EventKind::SelfReportedError
                    )
                });
                match reported.next() {
                    Some(kind) => self.own(&format!("`::{}` events", kind.as_str())),
                    None => Both::PLAIN,
                }
            }
        }
    }

    /// What has no conditions inside: a comparison, or whether something is there.
    fn comparison(&mut self, expr: &Expr) -> Both {
        if let Some(assured) = assurance(expr) {
            return assured;
        }
        if let ExprKind::HasAttr { expr: of, attr } = expr.expr_kind()
            && attr == "agent"
            && path(of).is_some_and(|path| path == ["session", "issuer"])
        {
            // If no agent opened it, an operator or a gateway did.
            return Both {
                fails: Ways::VOUCHED,
                ..self.own("context.session.issuer.agent")
            };
        }
        if path(expr).is_some_and(|path| path == ["session", "delegated"]) {
            return Both {
                fails: Ways::PLAIN,
                ..self.own("context.session.delegated")
            };
        }
        let mut vouched = false;
        let mut own_word = None;
        for part in expr.subexpressions() {
            match Self::source(part) {
                Some(Source::Vouched) => vouched = true,
                Some(Source::Own(what)) => own_word = Some(what),
                None => {}
            }
        }
        match (own_word, vouched) {
            (_, true) => Both::VOUCHED,
            (Some(what), false) => self.own(what),
            (None, false) => Both::PLAIN,
        }
    }

    fn own(&mut self, what: &str) -> Both {
        self.said.insert(what.to_owned());
        Both::OWN_WORD
    }

    /// Whose word an attribute is, if it is one that is somebody's.
    fn source(expr: &Expr) -> Option<Source> {
        let kind = expr.expr_kind();
        if let ExprKind::BinaryApp {
            op: BinaryOp::GetTag | BinaryOp::HasTag,
            arg1,
            ..
        } = kind
            && is_resource(arg1)
        {
            return Some(Source::Vouched);
        }
        let named = if let ExprKind::GetAttr { expr: of, attr }
        | ExprKind::HasAttr { expr: of, attr } = kind
        {
            if is_resource(of) {
                return Some(Source::Vouched);
            }
            let mut named = path(of)?;
            named.push(attr.as_str());
            named
        } else {
            return None;
        };
        match named.as_slice() {
            ["request", "claims"] => Some(Source::Own("context.request.claims")),
            ["session", "issuer", "agent"] => Some(Source::Own("context.session.issuer.agent")),
            ["session", "issuer", "operator" | "gateway"]
            | ["session", "purpose" | "subject" | "grants"]
            | ["request", "presenter" | "approval"] => Some(Source::Vouched),
            _ => None,
        }
    }
}

enum Source {
    Own(&'static str),
    Vouched,
}

/// Who must have signed: a gateway's signature is another's word.
fn assurance(expr: &Expr) -> Option<Both> {
    let ExprKind::BinaryApp {
        op: BinaryOp::Eq,
        arg1,
        arg2,
    } = expr.expr_kind()
    else {
        return None;
    };
    let is_it = |expr: &Expr| path(expr).is_some_and(|path| path == ["request", "assurance"]);
    let level = match (is_it(arg1), is_it(arg2)) {
        (true, false) => arg2,
        (false, true) => arg1,
        _ => return None,
    };
    let ExprKind::Lit(Literal::String(level)) = level.expr_kind() else {
        return None;
    };
    Some(if level.as_str() == "AGENT_SIGNED" {
        Both::VOUCHED.not()
    } else {
        Both::VOUCHED
    })
}

fn is_resource(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(Var::Resource))
}

/// The names of `context.a.b`, without `context`; none if the expression is no such path.
fn path(expr: &Expr) -> Option<Vec<&str>> {
    if matches!(expr.expr_kind(), ExprKind::Var(Var::Context)) {
        return Some(Vec::new());
    }
    let ExprKind::GetAttr { expr: of, attr } = expr.expr_kind() else {
        return None;
    };
    let mut names = path(of)?;
    names.push(attr.as_str());
    Some(names)
}
