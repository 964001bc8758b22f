//! Conditions over the past in the forms that cells can answer.
//!
//! Built once, from Dogwood's syntax tree, at publish. What has another form has no plan, and is answered by Dogwood's own
//! engine from the events themselves.

use dogwood_language::Value as Dogwood;
use dogwood_language::temporal_ast::{
    AggExpr, AggExprKind, ArithOp, CmpOp, Condition, ConditionKind, NamedArg, Predicate, Term,
    WithinSpec,
};

use crate::evaluate::names::ACTION_PATH;
use crate::history::EventKind;
use crate::history::NS_PER_S;
use crate::history::cell::{Asked, Keep, Pattern, Spec};

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    /// The request itself matches.
    Now(Pattern),
    /// `formerly`
    Formerly(Spec),
    /// `previous`
    Previous(Spec),
    /// `!broken && … since anchor`
    Since {
        broken: Vec<Spec>,
        anchor: Spec,
    },
    Compare(CmpOp, Operand, Operand),
    /// `bind`: the value is at hand inside, if there is one; otherwise the condition does not hold.
    Bind(Operand, Box<Self>),
}

/// What a comparison compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    Value(Dogwood),
    Asked(Asked),
    /// The value that so many `bind`s, from outside, made.
    Bound(usize),
    /// A count or sum.
    Aggregate(Spec),
    Arithmetic(ArithOp, Box<Self>, Box<Self>),
}

impl Plan {
    /// The plan of a condition; none if cells cannot answer it.
    pub(crate) fn of(condition: &Condition) -> Option<Self> {
        plan(condition, &mut Vec::new())
    }

    /// Hands out every cell that the plan reads.
    pub(crate) fn cells<'a>(&'a self, found: &mut Vec<&'a Spec>) {
        match self {
            Self::And(left, right) | Self::Or(left, right) => {
                left.cells(found);
                right.cells(found);
            }
            Self::Not(inner) => inner.cells(found),
            Self::Now(_) => {}
            Self::Formerly(spec) | Self::Previous(spec) => found.push(spec),
            Self::Since { broken, anchor } => {
                found.extend(broken);
                found.push(anchor);
            }
            Self::Compare(_, left, right) => {
                left.cells(found);
                right.cells(found);
            }
            Self::Bind(value, inside) => {
                value.cells(found);
                inside.cells(found);
            }
        }
    }
}

impl Operand {
    fn cells<'a>(&'a self, found: &mut Vec<&'a Spec>) {
        match self {
            Self::Value(_) | Self::Asked(_) | Self::Bound(_) => {}
            Self::Aggregate(spec) => found.push(spec),
            Self::Arithmetic(_, left, right) => {
                left.cells(found);
                right.cells(found);
            }
        }
    }
}

fn plan(condition: &Condition, names: &mut Vec<String>) -> Option<Plan> {
    Some(match &condition.kind {
        ConditionKind::And { left, right } => {
            Plan::And(Box::new(plan(left, names)?), Box::new(plan(right, names)?))
        }
        ConditionKind::Or { left, right } => {
            Plan::Or(Box::new(plan(left, names)?), Box::new(plan(right, names)?))
        }
        ConditionKind::Not { inner } => Plan::Not(Box::new(plan(inner, names)?)),
        ConditionKind::Predicate(predicate) => Plan::Now(pattern(predicate, None)?),
        ConditionKind::Formerly { within, body } => Plan::Formerly(last(body, within)?),
        ConditionKind::Previous { within, body } => Plan::Previous(last(body, within)?),
        ConditionKind::Since {
            left,
            within,
            right,
        } => {
            let mut broken = Vec::new();
            breakers(left, within, &mut broken)?;
            Plan::Since {
                broken,
                anchor: last(right, within)?,
            }
        }
        ConditionKind::Comparison { op, left, right } => {
            Plan::Compare(*op, operand(left, names)?, operand(right, names)?)
        }
        ConditionKind::Exists { var, body } => {
            let ConditionKind::And { left, right } = &body.kind else {
                return None;
            };
            let ConditionKind::Comparison {
                op: CmpOp::Eq,
                left: value,
                right: bound,
            } = &left.kind
            else {
                return None;
            };
            let name = var.name();
            let is_bound = |term: &Term| matches!(term, Term::Var(variable) if variable == name);
            let value = match (is_bound(value), is_bound(bound)) {
                (false, true) => value,
                (true, false) => bound,
                _ => return None,
            };
            // Inside the value the name would mean itself.
            if names.iter().any(|outer| outer == name) {
                return None;
            }
            let value = operand(value, names)?;
            names.push(name.to_owned());
            let inside = plan(right, names);
            names.pop();
            Plan::Bind(value, Box::new(inside?))
        }
        ConditionKind::Tp { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. }
        | ConditionKind::Refine { .. } => return None,
    })
}

/// The predicates of which none may match: `!a && !b`.
fn breakers(condition: &Condition, within: &WithinSpec, found: &mut Vec<Spec>) -> Option<()> {
    match &condition.kind {
        ConditionKind::And { left, right } => {
            breakers(left, within, found)?;
            breakers(right, within, found)
        }
        ConditionKind::Not { inner } => {
            found.push(last(inner, within)?);
            Some(())
        }
        ConditionKind::Or { .. }
        | ConditionKind::Formerly { .. }
        | ConditionKind::Previous { .. }
        | ConditionKind::Since { .. }
        | ConditionKind::Predicate(_)
        | ConditionKind::Comparison { .. }
        | ConditionKind::Exists { .. }
        | ConditionKind::Tp { .. }
        | ConditionKind::Call(_)
        | ConditionKind::SigilRef { .. }
        | ConditionKind::Refine { .. } => None,
    }
}

fn last(body: &Condition, within: &WithinSpec) -> Option<Spec> {
    let ConditionKind::Predicate(predicate) = &body.kind else {
        return None;
    };
    Some(Spec::new(
        pattern(predicate, None)?,
        Keep::Last,
        window_ns(within)?,
    ))
}

fn window_ns(within: &WithinSpec) -> Option<i64> {
    match within {
        WithinSpec::Concrete(interval) => interval.seconds().checked_mul(NS_PER_S),
        WithinSpec::ParamRef(_) => None,
    }
}

fn operand(term: &Term, names: &[String]) -> Option<Operand> {
    if let Term::Var(name) = term {
        let place = names.iter().position(|bound| bound == name)?;
        Some(Operand::Bound(place))
    } else if let Term::Agg(aggregate) = term {
        Some(Operand::Aggregate(self::aggregate(aggregate)?))
    } else if let Term::Arith { op, left, right } = term {
        let (left, right) = (operand(left, names)?, operand(right, names)?);
        Some(Operand::Arithmetic(*op, Box::new(left), Box::new(right)))
    } else if matches!(term, Term::ContextField(_) | Term::ScopeField(_)) {
        Some(Operand::Asked(asked(term)?))
    } else {
        Some(Operand::Value(literal(term)?))
    }
}

fn asked(term: &Term) -> Option<Asked> {
    if let Term::ContextField(path) = term {
        Some(Asked::Context(path.clone()))
    } else if let Term::ScopeField(path) = term {
        Some(Asked::Scope(path.clone()))
    } else {
        None
    }
}

fn literal(term: &Term) -> Option<Dogwood> {
    Some(match term {
        Term::Entity { ty, id } => Dogwood::Entity {
            ty: ty.clone(),
            id: id.clone(),
        },
        Term::Integer(number) => Dogwood::Int(*number),
        Term::Decimal(text) => Dogwood::Decimal(text.clone()),
        Term::String(text) => Dogwood::String(text.clone()),
        Term::Bool(value) => Dogwood::Bool(*value),
        Term::Array(items) => Dogwood::Array(items.iter().map(literal).collect::<Option<_>>()?),
        Term::ContextField(_)
        | Term::ScopeField(_)
        | Term::Var(_)
        | Term::Wildcard
        | Term::Agg(_)
        | Term::Arith { .. }
        | Term::ParamRef(_)
        | Term::BinderRef(_) => return None,
    })
}

/// A predicate; `measured` is the variable that stands for the field which is summed or told apart.
fn pattern(predicate: &Predicate, measured: Option<&str>) -> Option<Pattern> {
    if predicate.namespace != ACTION_PATH {
        return None;
    }
    let mut pattern = Pattern {
        action: predicate.action.clone(),
        kind: EventKind::from_name(&predicate.kind)?,
        fixed: Vec::new(),
        present: Vec::new(),
        asked: Vec::new(),
    };
    for arg in &predicate.args {
        let path = arg.field_path();
        let is_measured = matches!(&arg.value, Term::Var(name) if measured == Some(name));
        if is_measured || matches!(arg.value, Term::Wildcard) {
            pattern.present.push(path);
        } else if matches!(arg.value, Term::ContextField(_) | Term::ScopeField(_)) {
            pattern.asked.push((path, asked(&arg.value)?));
        } else {
            pattern.fixed.push((path, literal(&arg.value)?));
        }
    }
    Some(pattern)
}

/// The aggregates that Dogwood's own macros write.
fn aggregate(aggregate: &AggExpr) -> Option<Spec> {
    match &aggregate.kind {
        AggExprKind::Count { for_vars, body } => {
            let [var] = for_vars.as_slice() else {
                return None;
            };
            let (within, body) = formerly(body)?;
            match timed(body, var.name()) {
                Some(predicate) => Some(Spec::new(
                    pattern(predicate, None)?,
                    Keep::Count,
                    window_ns(within)?,
                )),
                None => {
                    let ConditionKind::Predicate(predicate) = &body.kind else {
                        return None;
                    };
                    let field = measured(predicate, var.name())?;
                    Some(Spec::new(
                        pattern(predicate, Some(var.name()))?,
                        Keep::Distinct(field),
                        window_ns(within)?,
                    ))
                }
            }
        }
        AggExprKind::Sum {
            bound_var,
            for_vars,
            body,
        } => {
            let [summand, time] = for_vars.as_slice() else {
                return None;
            };
            let (within, body) = formerly(body)?;
            let predicate = timed(body, time.name())?;
            if summand.name() != bound_var.name() || summand.name() == time.name() {
                return None;
            }
            let field = measured(predicate, summand.name())?;
            Some(Spec::new(
                pattern(predicate, Some(summand.name()))?,
                Keep::Sum(field),
                window_ns(within)?,
            ))
        }
        AggExprKind::Call(_) => None,
    }
}

fn formerly(condition: &Condition) -> Option<(&WithinSpec, &Condition)> {
    if let ConditionKind::Formerly { within, body } = &condition.kind {
        Some((within, body))
    } else {
        None
    }
}

/// The predicate of `predicate && tp(time)`.
fn timed<'a>(condition: &'a Condition, time: &str) -> Option<&'a Predicate> {
    let ConditionKind::And { left, right } = &condition.kind else {
        return None;
    };
    let ConditionKind::Predicate(predicate) = &left.kind else {
        return None;
    };
    let ConditionKind::Tp { var } = &right.kind else {
        return None;
    };
    let is_used = |arg: &NamedArg| matches!(&arg.value, Term::Var(name) if name == time);
    (var.name() == time && !predicate.args.iter().any(is_used)).then_some(predicate)
}

/// The one field that the variable stands for.
fn measured(predicate: &Predicate, name: &str) -> Option<Vec<String>> {
    let is_it = |arg: &&NamedArg| matches!(&arg.value, Term::Var(var) if var == name);
    let mut fields = predicate.args.iter().filter(is_it);
    let field = fields.next()?.field_path();
    fields.next().is_none().then_some(field)
}
