//! What a temporal condition could read of the past, found from its syntax.
//!
//! A partition keeps only that. The question is harder than listing the predicates: `previous` looks at whatever event came
//! last, and `formerly (!p)` holds at any event that is not a `p`. A condition that an event of no interest to its predicates
//! could change is said to read everything.

use std::collections::{BTreeMap, BTreeSet};

use dogwood_language::temporal_ast::{
    AggExpr, AggExprKind, Condition, ConditionKind, Predicate, Term, WithinSpec,
};

use crate::history::EventKind;

/// Events of one action and kind.
pub(crate) type Topic = (String, EventKind);

/// The part of the past that a rule's temporal conditions could read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// True if any event can matter, whatever its action and kind.
    pub(crate) everything: bool,
    /// The events named, and the paths of the fields compared in each.
    pub(crate) topics: BTreeMap<Topic, BTreeSet<Vec<String>>>,
    /// How far back, in seconds: windows inside windows add up.
    pub(crate) reach_s: i64,
    /// Conditions and sums inside each other.
    pub(crate) depth: usize,
    /// The kinds of events that are counted or summed.
    pub(crate) counted: BTreeSet<EventKind>,
    /// True if an attribute of the principal or resource is compared.
    pub(crate) scope_attributes: bool,
}

impl Reads {
    /// Adds what a condition could read.
    pub(crate) fn add(&mut self, condition: &Condition) {
        self.everything |= !is_stable(condition);
        self.reach_s = self.reach_s.max(reach_s(condition));
        self.depth = self.depth.max(depth(condition));
        self.names(condition);
    }

    fn names(&mut self, condition: &Condition) {
        if let ConditionKind::Predicate(predicate) = &condition.kind {
            self.predicate(predicate);
        }
        if let ConditionKind::Comparison { left, right, .. } = &condition.kind {
            self.term(left);
            self.term(right);
        } else {
            let inside = children(condition);
            inside.into_iter().for_each(|child| self.names(child));
        }
    }

    fn predicate(&mut self, predicate: &Predicate) {
        if let Some(kind) = EventKind::from_name(&predicate.kind) {
            let fields = self
                .topics
                .entry((predicate.action.clone(), kind))
                .or_default();
            fields.extend(predicate.args.iter().map(|arg| arg.field_path()));
        }
        predicate.args.iter().for_each(|arg| self.term(&arg.value));
    }

    fn term(&mut self, term: &Term) {
        match term {
            Term::Agg(aggregate) => {
                if let Some(body) = aggregate_body(aggregate) {
                    let mut inside = Self::default();
                    inside.names(body);
                    self.counted
                        .extend(inside.topics.keys().map(|(_, kind)| *kind));
                    self.names(body);
                }
            }
            Term::Arith { left, right, .. } => {
                self.term(left);
                self.term(right);
            }
            Term::ScopeField(path) => self.scope_attributes |= path.len() > 1,
            Term::Array(items) => items.iter().for_each(|item| self.term(item)),
            Term::Entity { .. }
            | Term::Integer(_)
            | Term::Decimal(_)
            | Term::String(_)
            | Term::Bool(_)
            | Term::ContextField(_)
            | Term::Var(_)
            | Term::Wildcard
            | Term::ParamRef(_)
            | Term::BinderRef(_) => {}
        }
    }
}

/// The values of the request that a condition compares events with.
pub(crate) fn asked_in(condition: &Condition) -> Vec<&Term> {
    let mut terms = Vec::new();
    if let ConditionKind::Predicate(predicate) = &condition.kind {
        terms.extend(predicate.args.iter().map(|arg| &arg.value));
    }
    if let ConditionKind::Comparison { left, right, .. } = &condition.kind {
        terms.extend([left, right]);
    }
    let mut asked = Vec::new();
    while let Some(term) = terms.pop() {
        if let Term::Arith { left, right, .. } = term {
            terms.extend([&**left, &**right]);
        } else if let Term::Array(items) = term {
            terms.extend(items);
        } else if matches!(term, Term::ContextField(_) | Term::ScopeField(_)) {
            asked.push(term);
        }
    }
    asked.extend(children(condition).into_iter().flat_map(asked_in));
    asked
}

/// The condition over which a count or sum ranges; a macro call has been expanded before anything gets here.
fn aggregate_body(aggregate: &AggExpr) -> Option<&Condition> {
    match &aggregate.kind {
        AggExprKind::Sum { body, .. } | AggExprKind::Count { body, .. } => Some(body),
        AggExprKind::Call(_) => None,
    }
}

/// The conditions directly inside one, those inside the aggregates of a comparison included.
fn children(condition: &Condition) -> Vec<&Condition> {
    match &condition.kind {
        ConditionKind::And { left, right }
        | ConditionKind::Or { left, right }
        | ConditionKind::Since { left, right, .. } => vec![left, right],
        ConditionKind::Not { inner }
        | ConditionKind::Formerly { body: inner, .. }
        | ConditionKind::Previous { body: inner, .. }
        | ConditionKind::Exists { body: inner, .. }
        | ConditionKind::Refine { base: inner, .. } => vec![inner],
        ConditionKind::Comparison { left, right, .. } => {
            let mut bodies = Vec::new();
            for term in [left, right] {
                term.for_each_operand_agg(&mut |aggregate| {
                    bodies.extend(aggregate_body(aggregate))
                });
            }
            bodies
        }
        ConditionKind::Predicate(_)
        | ConditionKind::Tp { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. } => Vec::new(),
    }
}

/// How many conditions, and sums in their comparisons, stand inside each other.
fn depth(condition: &Condition) -> usize {
    let inside = children(condition).into_iter().map(depth).max();
    let terms = if let ConditionKind::Comparison { left, right, .. } = &condition.kind {
        term_depth(left).max(term_depth(right))
    } else {
        0
    };
    1 + terms + inside.unwrap_or(0)
}

fn term_depth(term: &Term) -> usize {
    if let Term::Arith { left, right, .. } = term {
        1 + term_depth(left).max(term_depth(right))
    } else {
        0
    }
}

/// How far back the condition looks, in seconds.
fn reach_s(condition: &Condition) -> i64 {
    let inside = children(condition).into_iter().map(reach_s).max();
    let own = match &condition.kind {
        ConditionKind::Formerly { within, .. }
        | ConditionKind::Previous { within, .. }
        | ConditionKind::Since { within, .. } => match within {
            WithinSpec::Concrete(interval) => interval.seconds(),
            WithinSpec::ParamRef(_) => i64::MAX,
        },
        ConditionKind::And { .. }
        | ConditionKind::Or { .. }
        | ConditionKind::Not { .. }
        | ConditionKind::Predicate(_)
        | ConditionKind::Comparison { .. }
        | ConditionKind::Exists { .. }
        | ConditionKind::Tp { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. }
        | ConditionKind::Refine { .. } => 0,
    };
    own.saturating_add(inside.unwrap_or(0))
}

/// True if adding or removing events that none of the condition's predicates match cannot change it.
fn is_stable(condition: &Condition) -> bool {
    let here = match &condition.kind {
        ConditionKind::Formerly { body, .. } => is_anchored(body),
        ConditionKind::Since { left, right, .. } => holds_elsewhere(left) && is_anchored(right),
        ConditionKind::Previous { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. }
        | ConditionKind::Refine { .. } => false,
        ConditionKind::And { .. }
        | ConditionKind::Or { .. }
        | ConditionKind::Not { .. }
        | ConditionKind::Predicate(_)
        | ConditionKind::Comparison { .. }
        | ConditionKind::Exists { .. }
        | ConditionKind::Tp { .. } => true,
    };
    here && children(condition).into_iter().all(is_stable)
}

/// True if the condition can hold only at an event that one of its predicates matches.
fn is_anchored(condition: &Condition) -> bool {
    match &condition.kind {
        ConditionKind::Predicate(_) => true,
        ConditionKind::And { left, right } => is_anchored(left) || is_anchored(right),
        ConditionKind::Or { left, right } => is_anchored(left) && is_anchored(right),
        ConditionKind::Exists { body, .. } => is_anchored(body),
        ConditionKind::Not { .. }
        | ConditionKind::Formerly { .. }
        | ConditionKind::Previous { .. }
        | ConditionKind::Since { .. }
        | ConditionKind::Comparison { .. }
        | ConditionKind::Tp { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. }
        | ConditionKind::Refine { .. } => false,
    }
}

/// True if the condition holds at every event that none of its predicates match.
fn holds_elsewhere(condition: &Condition) -> bool {
    if let ConditionKind::And { left, right } = &condition.kind {
        holds_elsewhere(left) && holds_elsewhere(right)
    } else if let ConditionKind::Not { inner } = &condition.kind {
        is_anchored(inner)
    } else {
        false
    }
}
