//! Whether a plan holds at a request: Dogwood's meaning of a condition, read from cells.
//!
//! The request is the newest event: it matches like any other. What of it a condition compares older events with is looked up
//! when first needed.

use std::cell::OnceCell;

use cedar_policy_core::entities::Entities;
use dogwood_language::temporal_ast::{ArithOp, CmpOp};
use dogwood_language::{Event as Played, Value as Dogwood};

use super::{Unplayable, context, decision_event};
use crate::compile::Compiled;
use crate::evaluate::explain::{Measure, Measured};
use crate::evaluate::names::{AGENT, RESOURCE};
use crate::history::Event;
use crate::history::NS_PER_S;
use crate::history::cell::{Asked, Keep, Pattern, Spec, digest, field, within};
use crate::history::plan::{Operand, Plan};
use crate::history::view::View;
use crate::request::Request;

/// A request that is being decided, and the past.
pub(super) struct Asking<'a> {
    past: &'a View<'a>,
    asked: &'a Event,
    compiled: &'a Compiled,
    entities: &'a Entities,
    request: &'a Request,
    context: OnceCell<Vec<(String, Dogwood)>>,
    played: OnceCell<Option<Played>>,
}

/// One condition that is being answered: since when its rule has a past, and what its `bind`s made.
struct Condition<'a> {
    asking: &'a Asking<'a>,
    since_ns: i64,
    bound: Vec<Dogwood>,
}

impl<'a> Asking<'a> {
    pub(super) const fn new(
        past: &'a View<'a>,
        asked: &'a Event,
        compiled: &'a Compiled,
        entities: &'a Entities,
        request: &'a Request,
    ) -> Self {
        Self {
            past,
            asked,
            compiled,
            entities,
            request,
            context: OnceCell::new(),
            played: OnceCell::new(),
        }
    }

    pub(super) fn holds(&self, plan: &Plan, since_ns: i64) -> Result<bool, Unplayable> {
        let mut condition = Condition {
            asking: self,
            since_ns,
            bound: Vec::new(),
        };
        condition.holds(plan)
    }

    /// What the plan finds in each of its cells, in the order of its text.
    pub(super) fn measured(&self, plan: &Plan, since_ns: i64) -> Result<Vec<Measured>, Unplayable> {
        let condition = Condition {
            asking: self,
            since_ns,
            bound: Vec::new(),
        };
        let mut cells = Vec::new();
        plan.cells(&mut cells);
        cells
            .into_iter()
            .map(|spec| {
                Ok(Measured {
                    action: spec.pattern.action.clone(),
                    event: spec.pattern.kind.as_str(),
                    window_s: u64::try_from(spec.window_ns / NS_PER_S).unwrap_or(0),
                    measure: condition.measure(spec)?,
                })
            })
            .collect()
    }

    /// A value of the request; none if it has none.
    fn resolve(&self, asked: &Asked) -> Option<Dogwood> {
        match asked {
            Asked::Context(path) => {
                let (group, rest) = path.split_first()?;
                if group == "input" {
                    return within(&self.asked.input, rest);
                }
                let context = self.context.get_or_init(|| {
                    context::for_dogwood(self.request, &self.asked.input).unwrap_or_default()
                });
                let mut at = context
                    .iter()
                    .find(|(name, _)| name == group)
                    .map(|(_, group)| group)?;
                for name in rest {
                    let Dogwood::Object(fields) = at else {
                        return None;
                    };
                    at = fields.get(name)?;
                }
                Some(at.clone())
            }
            Asked::Scope(path) => {
                let (root, attributes) = path.split_first()?;
                if !attributes.is_empty() {
                    let played = self.played.get_or_init(|| {
                        decision_event(self.compiled, self.entities, self.asked, self.request).ok()
                    });
                    return played.as_ref()?.scope_attr(root, attributes);
                }
                let (ty, id) = if root == "principal" {
                    (AGENT, &self.asked.agent)
                } else {
                    (RESOURCE, &self.asked.resource)
                };
                Some(Dogwood::Entity {
                    ty: ty.to_owned(),
                    id: id.clone(),
                })
            }
        }
    }

    /// The digest of the values that the pattern asks of the request; none if one is missing, and then nothing matches.
    fn values(&self, pattern: &Pattern) -> Option<[u8; 16]> {
        if pattern.asked.is_empty() {
            return Some([0; 16]);
        }
        let values = pattern.asked.iter().map(|(_, asked)| self.resolve(asked));
        Some(digest(&values.collect::<Option<Vec<_>>>()?))
    }

    /// True if the request matches.
    fn is_now(&self, pattern: &Pattern) -> bool {
        pattern.is_like(self.asked)
            && pattern.asked.iter().all(|(path, asked)| {
                let values = self.resolve(asked).zip(field(self.asked, path));
                values.is_some_and(|(asked, found)| asked.dom_eq(&found))
            })
    }
}

impl Condition<'_> {
    fn begin_ns(&self, spec: &Spec) -> i64 {
        let from = self.asking.asked.time_ns.saturating_sub(spec.window_ns);
        from.max(self.since_ns)
    }

    fn holds(&mut self, plan: &Plan) -> Result<bool, Unplayable> {
        let asking = self.asking;
        Ok(match plan {
            Plan::And(left, right) => self.holds(left)? && self.holds(right)?,
            Plan::Or(left, right) => self.holds(left)? || self.holds(right)?,
            Plan::Not(inner) => !self.holds(inner)?,
            Plan::Now(pattern) => asking.is_now(pattern),
            Plan::Formerly(spec) => {
                asking.is_now(&spec.pattern)
                    || match asking.values(&spec.pattern) {
                        Some(values) => {
                            let seen = asking.past.last_since(spec, values, self.begin_ns(spec))?;
                            seen.is_some()
                        }
                        None => false,
                    }
            }
            Plan::Previous(spec) => match asking.values(&spec.pattern) {
                Some(values) => {
                    let seen = asking.past.last_since(spec, values, self.begin_ns(spec))?;
                    seen.is_some_and(|seen| seen.seq == asking.past.last().seq)
                }
                None => false,
            },
            Plan::Since { broken, anchor } => self.since(broken, anchor)?,
            Plan::Compare(op, left, right) => match (self.value(left)?, self.value(right)?) {
                (Some(left), Some(right)) => compare(*op, &left, &right),
                _ => false,
            },
            Plan::Bind(value, inside) => match self.value(value)? {
                Some(value) => {
                    self.bound.push(value);
                    let holds = self.holds(inside);
                    self.bound.pop();
                    holds?
                }
                None => false,
            },
        })
    }

    fn since(&self, broken: &[Spec], anchor: &Spec) -> Result<bool, Unplayable> {
        let asking = self.asking;
        if asking.is_now(&anchor.pattern) {
            return Ok(true);
        }
        let Some(values) = asking.values(&anchor.pattern) else {
            return Ok(false);
        };
        let anchored = asking
            .past
            .last_since(anchor, values, self.begin_ns(anchor))?;
        let Some(anchored) = anchored else {
            return Ok(false);
        };
        for spec in broken {
            if asking.is_now(&spec.pattern) {
                return Ok(false);
            }
            let Some(values) = asking.values(&spec.pattern) else {
                continue;
            };
            let last = asking.past.last_since(spec, values, anchored.time_ns)?;
            if last.is_some_and(|last| last.seq > anchored.seq) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn value(&self, operand: &Operand) -> Result<Option<Dogwood>, Unplayable> {
        Ok(match operand {
            Operand::Value(value) => Some(value.clone()),
            Operand::Asked(asked) => self.asking.resolve(asked),
            Operand::Bound(number) => self.bound.get(*number).cloned(),
            Operand::Aggregate(spec) => Some(Dogwood::Int(self.aggregate(spec)?)),
            Operand::Arithmetic(op, left, right) => {
                let left = self.value(left)?.and_then(|value| value.as_int());
                let right = self.value(right)?.and_then(|value| value.as_int());
                left.zip(right).map(|(left, right)| {
                    Dogwood::Int(match op {
                        ArithOp::Add => left.saturating_add(right),
                        ArithOp::Sub => left.saturating_sub(right),
                        ArithOp::Mul => left.saturating_mul(right),
                    })
                })
            }
        })
    }

    fn measure(&self, spec: &Spec) -> Result<Measure, Unplayable> {
        Ok(match spec.keep {
            Keep::Last => {
                let asking = self.asking;
                let seen = match asking.values(&spec.pattern) {
                    Some(values) => asking.past.last_since(spec, values, self.begin_ns(spec))?,
                    None => None,
                };
                Measure::Last(seen.and_then(|seen| u64::try_from(seen.time_ns / 1_000).ok()))
            }
            Keep::Count => Measure::Count(self.aggregate(spec)?),
            Keep::Sum(_) => Measure::Sum(self.aggregate(spec)?),
            Keep::Distinct(_) => Measure::Distinct(self.aggregate(spec)?),
        })
    }

    fn aggregate(&self, spec: &Spec) -> Result<i64, Unplayable> {
        let asking = self.asking;
        let Some(values) = asking.values(&spec.pattern) else {
            return Ok(0);
        };
        let entry = asking
            .is_now(&spec.pattern)
            .then(|| spec.keep.entry(asking.asked))
            .flatten();
        let from_ns = self.begin_ns(spec);
        let totals = asking
            .past
            .totals_since(spec, values, from_ns, entry.as_deref())?;
        Ok(if matches!(spec.keep, Keep::Sum(_)) {
            let clamped = totals.sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
            i64::try_from(clamped).unwrap_or(i64::MAX)
        } else {
            i64::try_from(totals.count).unwrap_or(i64::MAX)
        })
    }
}

fn compare(op: CmpOp, left: &Dogwood, right: &Dogwood) -> bool {
    let numbers = left.as_int().zip(right.as_int());
    match op {
        CmpOp::Eq => left.dom_eq(right),
        CmpOp::NotEq => !left.dom_eq(right),
        CmpOp::Lt => numbers.is_some_and(|(left, right)| left < right),
        CmpOp::Le => numbers.is_some_and(|(left, right)| left <= right),
        CmpOp::Gt => numbers.is_some_and(|(left, right)| left > right),
        CmpOp::Ge => numbers.is_some_and(|(left, right)| left >= right),
    }
}
