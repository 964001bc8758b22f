//! The rules that could have a say in a request, found without looking at the others.
//!
//! Each policy stands under the entities that its scope names: one for the principal, one for the action (several for a list),
//! one for the resource, or nothing where the scope leaves that open. A request looks under itself, under everything it is in,
//! and under nothing. What it finds is compared with the scope once more, exactly, so that only the policy's body is left to
//! evaluate.
//!
//! This is sound because a scope has no way to err: `==`, `in` and `is` between entities are false where they are not true. A
//! policy whose scope is false is neither satisfied nor erring, so it is in no answer; leaving it out changes none. And a scope
//! that is true leaves of `scope && body` the body, its value and its errors alike.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::PolicySet;
use cedar_policy_core::ast::{
    ActionConstraint, Effect, EntityReference, EntityType, EntityUID, Literal, Policy,
    PrincipalOrResourceConstraint, Request, Value, ValueKind, Var,
};
use cedar_policy_core::entities::{Dereference, Entities};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

use super::cedar::Answer;

mod body;

use body::named;
pub(crate) use body::{Needs, children};

/// The place of a policy among all of its set.
pub(crate) type Place = usize;

/// Policies by the entity that a part of their scope names, or none.
type By<T> = BTreeMap<Option<EntityUID>, T>;

/// A policy set, arranged by scope.
#[derive(Debug, Default)]
pub struct Slices {
    policies: Vec<Sliced>,
    /// By action, principal and resource.
    index: By<By<By<Vec<Place>>>>,
}

/// One policy, with what is known before any request.
#[derive(Debug)]
struct Sliced {
    policy: Policy,
    principal: Scope,
    action: ActionConstraint,
    resource: Scope,
    needs: Needs,
    /// The entities that its body names.
    names: Vec<EntityUID>,
}

/// The scope of a principal or resource. An entity is in itself.
#[derive(Debug, Clone, Default)]
struct Scope {
    of_type: Option<EntityType>,
    equal_to: Option<EntityUID>,
    inside: Option<EntityUID>,
}

/// An entity, and all that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) uid: EntityUID,
    pub(crate) ancestors: BTreeSet<EntityUID>,
}

impl Placed {
    /// The entity where a store has it.
    fn found(entities: &Entities, uid: &EntityUID) -> Self {
        let ancestors = match entities.entity(uid) {
            Dereference::Data(entity) => entity.ancestors().cloned().collect(),
            Dereference::NoSuchEntity | Dereference::Residual(_) => BTreeSet::new(),
        };
        Self {
            uid: uid.clone(),
            ancestors,
        }
    }

    pub(crate) fn is_in(&self, uid: &EntityUID) -> bool {
        self.uid == *uid || self.ancestors.contains(uid)
    }

    /// What stands under nothing, under the entity, and under each that it is in.
    fn under<'a, T>(&self, by: &'a By<T>) -> Vec<&'a T> {
        // Most maps are smaller than most hierarchies.
        by.iter()
            .filter(|(key, _)| key.as_ref().is_none_or(|key| self.is_in(key)))
            .map(|(_, value)| value)
            .collect()
    }

    fn look_up<'a, T>(&self, by: &'a By<T>) -> Vec<&'a T> {
        if by.len() <= self.ancestors.len() + 2 {
            return self.under(by);
        }
        let own = [None, Some(self.uid.clone())];
        let above = self.ancestors.iter().cloned().map(Some);
        own.into_iter()
            .chain(above)
            .filter_map(|key| by.get(&key))
            .collect()
    }
}

impl Slices {
    /// Arranges policies. Their places are those of the iteration here, which is that of the set's text.
    pub fn new(policies: &PolicySet) -> Self {
        Self::of(policies.policies().map(AsRef::as_ref))
    }

    /// Arranges policies in the order given.
    pub(crate) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut slices = Self::default();
        for (place, policy) in policies.enumerate() {
            let sliced = Sliced::new(policy);
            let principal = sliced.principal.key();
            let resource = sliced.resource.key();
            for action in action_keys(&sliced.action) {
                slices
                    .index
                    .entry(action)
                    .or_default()
                    .entry(principal.clone())
                    .or_default()
                    .entry(resource.clone())
                    .or_default()
                    .push(place);
            }
            slices.policies.push(sliced);
        }
        slices
    }

    /// All policies, by place.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|sliced| &sliced.policy)
    }

    /// The policy at a place.
    pub(crate) fn policy(&self, place: Place) -> Option<&Policy> {
        self.policies.get(place).map(|sliced| &sliced.policy)
    }

    /// What the scope of the policy at a place wants principal and resource to be in.
    pub(crate) fn inside(&self, place: Place) -> impl Iterator<Item = (Var, &EntityUID)> {
        let scopes = self.policies.get(place).map(|sliced| {
            [
                (Var::Principal, &sliced.principal),
                (Var::Resource, &sliced.resource),
            ]
        });
        let scopes = scopes.into_iter().flatten();
        scopes.filter_map(|(var, scope)| Some((var, scope.inside.as_ref()?)))
    }

    /// The places of the policies whose scope matches, ascending.
    pub(crate) fn slice(
        &self,
        principal: &Placed,
        action: &Placed,
        resource: &Placed,
    ) -> Vec<Place> {
        let mut slice: Vec<Place> = Vec::new();
        for by_principal in action.look_up(&self.index) {
            for by_resource in principal.look_up(by_principal) {
                for places in resource.look_up(by_resource) {
                    slice.extend(places.iter().filter(|place| {
                        self.policies
                            .get(**place)
                            .is_some_and(|policy| policy.concerns(principal, action, resource))
                    }));
                }
            }
        }
        slice.sort_unstable();
        slice.dedup();
        slice
    }

    /// What the policies at those places could read.
    pub(crate) fn needs(&self, places: &[Place]) -> Needs {
        let policies = places.iter().filter_map(|place| self.policies.get(*place));
        policies.fold(Needs::default(), |all, policy| all.and(policy.needs))
    }

    /// The entities that the bodies of the policies at those places name.
    pub(crate) fn named<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = &'a EntityUID> {
        let policies = places.iter().filter_map(|place| self.policies.get(*place));
        policies.flat_map(|policy| &policy.names)
    }

    /// Evaluates the policies at those places, whose scope matches: which are satisfied, and which err.
    pub(crate) fn evaluate(
        &self,
        places: &[Place],
        request: Request,
        entities: &Entities,
    ) -> Satisfied {
        let evaluator = Evaluator::new(request, entities, Extensions::all_available());
        let mut answer = Satisfied::default();
        for place in places {
            let Some(Sliced { policy, .. }) = self.policies.get(*place) else {
                continue;
            };
            // A body that is no boolean errs like one that cannot be evaluated.
            let is_satisfied = match policy.non_scope_constraints() {
                None => Some(true),
                Some(body) => evaluator
                    .interpret(body, policy.env())
                    .ok()
                    .and_then(|value| truth(&value)),
            };
            match (is_satisfied, policy.effect()) {
                (Some(true), Effect::Permit) => answer.permits.push(*place),
                (Some(true), Effect::Forbid) => answer.forbids.push(*place),
                (Some(false), _) => {}
                (None, _) => answer.erring.push(*place),
            }
        }
        answer
    }

    /// What Cedar says of one request, from the policies that could have a say.
    pub fn answer(
        &self,
        entities: &cedar_policy::Entities,
        request: &cedar_policy::Request,
    ) -> Answer {
        let (entities, request): (&Entities, &Request) = (entities.as_ref(), request.as_ref());
        let placed = |uid: Option<&EntityUID>| uid.map(|uid| Placed::found(entities, uid));
        let slice = match (
            placed(request.principal().uid()),
            placed(request.action().uid()),
            placed(request.resource().uid()),
        ) {
            (Some(principal), Some(action), Some(resource)) => {
                self.slice(&principal, &action, &resource)
            }
            // Who asks, for what or about what is not known: every policy could have a say.
            _ => (0..self.policies.len()).collect(),
        };
        let satisfied = self.evaluate(&slice, request.clone(), entities);
        let named = |places: &[Place]| {
            let policies = places.iter().filter_map(|place| self.policies.get(*place));
            let mut ids: Vec<String> = policies
                .map(|policy| policy.policy.id().to_string())
                .collect();
            ids.sort_unstable();
            ids
        };
        Answer {
            is_allow: satisfied.is_allow(),
            determining: named(satisfied.determining()),
            erring: named(&satisfied.erring),
        }
    }
}

/// The policies of a slice that are satisfied, and those that err, by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Satisfied {
    pub(crate) permits: Vec<Place>,
    pub(crate) forbids: Vec<Place>,
    pub(crate) erring: Vec<Place>,
}

impl Satisfied {
    /// True if a permit is satisfied and no forbid is.
    pub(crate) fn is_allow(&self) -> bool {
        self.forbids.is_empty() && !self.permits.is_empty()
    }

    /// The policies that determine the answer: the forbids, if there are any.
    pub(crate) fn determining(&self) -> &[Place] {
        if self.forbids.is_empty() {
            &self.permits
        } else {
            &self.forbids
        }
    }
}

impl Sliced {
    fn new(policy: &Policy) -> Self {
        let principal = policy.principal_constraint();
        let resource = policy.resource_constraint();
        Self {
            principal: Scope::new(policy, principal.as_inner(), Var::Principal),
            action: policy.action_constraint().clone(),
            resource: Scope::new(policy, resource.as_inner(), Var::Resource),
            needs: policy
                .non_scope_constraints()
                .map_or_else(Needs::default, Needs::of),
            names: policy
                .non_scope_constraints()
                .map(named)
                .unwrap_or_default(),
            policy: policy.clone(),
        }
    }

    /// True if the scope matches.
    fn concerns(&self, principal: &Placed, action: &Placed, resource: &Placed) -> bool {
        let is_action = match &self.action {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => action.uid == **uid,
            ActionConstraint::In(uids) => uids.iter().any(|uid| action.is_in(uid)),
        };
        is_action && self.principal.matches(principal) && self.resource.matches(resource)
    }
}

impl Scope {
    fn new(policy: &Policy, constraint: &PrincipalOrResourceConstraint, var: Var) -> Self {
        let named = |reference: &EntityReference| match reference {
            EntityReference::EUID(uid) => Some(EntityUID::clone(uid)),
            EntityReference::Slot(_) => {
                let mut values = policy.env().iter();
                let of_var = values.find(|(slot, _)| match var {
                    Var::Principal => slot.is_principal(),
                    Var::Action | Var::Resource | Var::Context => slot.is_resource(),
                });
                of_var.map(|(_, uid)| uid.clone())
            }
        };
        match constraint {
            PrincipalOrResourceConstraint::Any => Self::default(),
            PrincipalOrResourceConstraint::Eq(reference) => Self {
                equal_to: named(reference),
                ..Self::default()
            },
            PrincipalOrResourceConstraint::In(reference) => Self {
                inside: named(reference),
                ..Self::default()
            },
            PrincipalOrResourceConstraint::Is(of_type) => Self {
                of_type: Some(EntityType::clone(of_type)),
                ..Self::default()
            },
            PrincipalOrResourceConstraint::IsIn(of_type, reference) => Self {
                of_type: Some(EntityType::clone(of_type)),
                inside: named(reference),
                ..Self::default()
            },
        }
    }

    /// The entity that the scope names.
    fn key(&self) -> Option<EntityUID> {
        self.equal_to.clone().or_else(|| self.inside.clone())
    }

    fn matches(&self, placed: &Placed) -> bool {
        let of_type = self.of_type.as_ref();
        of_type.is_none_or(|of_type| placed.uid.entity_type() == of_type)
            && self.equal_to.as_ref().is_none_or(|uid| placed.uid == *uid)
            && self.inside.as_ref().is_none_or(|uid| placed.is_in(uid))
    }
}

fn action_keys(constraint: &ActionConstraint) -> BTreeSet<Option<EntityUID>> {
    match constraint {
        ActionConstraint::Any => BTreeSet::from([None]),
        ActionConstraint::Eq(uid) => BTreeSet::from([Some(EntityUID::clone(uid))]),
        ActionConstraint::In(uids) => uids.iter().map(|uid| Some(EntityUID::clone(uid))).collect(),
    }
}

pub(crate) fn truth(value: &Value) -> Option<bool> {
    if let ValueKind::Lit(Literal::Bool(value)) = value.value_kind() {
        Some(*value)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
