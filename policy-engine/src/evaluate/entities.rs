//! The entities that one request's rules can reach: the agent, the resource, grants and claims, the action, and what the
//! bundle says of those and of what they and the rules name.
//!
//! What the bundle says of an entity stands; the request adds what the bundle is silent about. The agent is the registry's
//! alone, so a bundle cannot describe one. An entity that nobody says anything of is left out: for Cedar it is in nothing and
//! has nothing either way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy_core::ast::{Entity, EntityUID, Literal, PartialValue, Value as Cedar, ValueKind};
use cedar_policy_core::entities::{Dereference, Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use dogwood_language::Value as Dogwood;

use crate::evaluate::context::{CLAIMS, GRANTS, text_for_cedar, texts_for_cedar};
use crate::evaluate::names::{Names, uid};
use crate::evaluate::slices::Placed;
use crate::request::{Request, StringSets};

/// Why the entities of a request cannot be built: it is in itself, by way of the bundle's own.
#[derive(Debug)]
pub(super) struct Inconsistent;

/// What a bundle says of entities, actions included, each with all that it is in.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    entities: BTreeMap<EntityUID, Known>,
}

#[derive(Debug)]
struct Known {
    entity: Arc<Entity>,
    /// The entities that its attributes and tags hold.
    holds: Vec<EntityUID>,
}

impl Facts {
    /// Takes the entities of a bundle, whose hierarchy is complete.
    pub(crate) fn new(entities: &cedar_policy::Entities) -> Self {
        let entities: &Entities = entities.as_ref();
        let known = entities.iter().map(|entity| {
            let values = entity.attrs().chain(entity.tags()).map(|(_, value)| value);
            let held: BTreeSet<EntityUID> = values.flat_map(held_by).collect();
            let known = Known {
                entity: Arc::new(entity.clone()),
                holds: held.into_iter().collect(),
            };
            (entity.uid().clone(), known)
        });
        Self {
            entities: known.collect(),
        }
    }

    /// True if the bundle says anything of the entity.
    pub(crate) fn describes(&self, uid: &EntityUID) -> bool {
        self.entities.contains_key(uid)
    }

    /// The entity with everything that it is in, if it is in nothing but what the bundle says.
    pub(crate) fn placed(&self, uid: EntityUID) -> Placed {
        let ancestors = self.ancestors(&uid).cloned().collect();
        Placed { uid, ancestors }
    }

    fn ancestors(&self, uid: &EntityUID) -> impl Iterator<Item = &EntityUID> {
        let known = self.entities.get(uid).into_iter();
        known.flat_map(|known| known.entity.ancestors())
    }

    /// The entity that is in these, and in all that they are in.
    fn below(&self, uid: EntityUID, parents: impl Iterator<Item = EntityUID>) -> Placed {
        let mut ancestors = BTreeSet::new();
        for parent in parents {
            ancestors.extend(self.ancestors(&parent).cloned());
            ancestors.insert(parent);
        }
        Placed { uid, ancestors }
    }

    /// The agent, in its groups.
    pub(crate) fn agent(&self, names: &Names, request: &Request) -> Placed {
        let agent = &request.agent;
        let groups = agent.groups.iter().map(|group| uid(&names.group, group));
        self.below(uid(&names.agent, &agent.id), groups)
    }

    /// The resource, where the bundle has it, or else where a gateway asserted it to be.
    pub(super) fn resource(
        &self,
        names: &Names,
        request: &Request,
    ) -> Result<Placed, Inconsistent> {
        let resource = uid(&names.resource, &request.resource.id);
        if self.describes(&resource) {
            return Ok(self.placed(resource));
        }
        let parents = request.resource.parents.iter();
        let placed = self.below(resource, parents.map(|parent| uid(&names.resource, parent)));
        if placed.ancestors.contains(&placed.uid) {
            return Err(Inconsistent);
        }
        Ok(placed)
    }

    /// The entities that rules can reach, which themselves name `named`.
    pub(super) fn reached<'a>(
        &'a self,
        names: &Names,
        request: &Request,
        (agent, action, resource): (&Placed, &'a Placed, &'a Placed),
        named: impl Iterator<Item = &'a EntityUID>,
    ) -> Result<Entities, Inconsistent> {
        let mut reached = vec![
            Arc::new(agent_entity(names, request, agent)),
            Arc::new(string_sets(names, GRANTS, &request.session.grants)),
            Arc::new(string_sets(names, CLAIMS, &request.claims)),
        ];
        if !self.describes(&resource.uid) {
            reached.push(Arc::new(resource_entity(names, request, resource)));
        }
        let mut seen = BTreeSet::new();
        let mut next: Vec<&EntityUID> = named.chain([&action.uid, &resource.uid]).collect();
        while let Some(uid) = next.pop() {
            let Some(known) = self.entities.get(uid) else {
                continue;
            };
            if seen.insert(uid) {
                next.extend(&known.holds);
                reached.push(above(&known.entity, resource));
            }
        }
        Entities::new()
            .add_entities(
                reached,
                None::<&NoEntitiesSchema>,
                TCComputation::AssumeAlreadyComputed,
                Extensions::all_available(),
            )
            .map_err(|_| Inconsistent)
    }
}

/// The entity of a bundle, also in whatever a gateway says that the resource is in, if it is in the resource.
fn above(entity: &Arc<Entity>, resource: &Placed) -> Arc<Entity> {
    if !entity.is_descendant_of(&resource.uid) {
        return Arc::clone(entity);
    }
    let mut entity = Entity::clone(entity);
    for ancestor in &resource.ancestors {
        if !entity.is_descendant_of(ancestor) {
            entity.add_indirect_ancestor(ancestor.clone());
        }
    }
    Arc::new(entity)
}

fn held_by(value: &PartialValue) -> Vec<EntityUID> {
    match value {
        PartialValue::Value(value) => value.all_literal_uids().into_iter().collect(),
        PartialValue::Residual(_) => Vec::new(),
    }
}

fn agent_entity(names: &Names, request: &Request, placed: &Placed) -> Entity {
    let agent = &request.agent;
    let groups: Vec<EntityUID> = agent
        .groups
        .iter()
        .map(|group| uid(&names.group, group))
        .collect();
    let owner = Cedar::from(uid(&names.operator, &agent.owner));
    entity(
        placed,
        vec![("owner", owner)],
        groups,
        agent.attributes.iter(),
    )
}

/// The resource as a gateway asserted it. If none said what type it is, it has no `type`, and a rule that reads it errs:
/// a permit is then no permit, and a forbid denies.
fn resource_entity(names: &Names, request: &Request, placed: &Placed) -> Entity {
    let resource = &request.resource;
    let kind = resource.kind.iter();
    let parents = resource.parents.iter();
    entity(
        placed,
        kind.map(|kind| ("type", text_for_cedar(kind))).collect(),
        parents.map(|parent| uid(&names.resource, parent)).collect(),
        resource.attributes.iter(),
    )
}

fn entity<'a>(
    placed: &Placed,
    attributes: Vec<(&'static str, Cedar)>,
    parents: Vec<EntityUID>,
    tags: impl Iterator<Item = (&'a String, &'a String)>,
) -> Entity {
    let indirect = placed
        .ancestors
        .iter()
        .filter(|ancestor| !parents.contains(ancestor));
    let indirect = indirect.cloned().collect();
    Entity::new_with_attr_partial_value(
        placed.uid.clone(),
        attributes
            .into_iter()
            .map(|(name, value)| (name.into(), PartialValue::Value(value))),
        indirect,
        parents.into_iter().collect(),
        tags.map(|(name, value)| {
            let value = PartialValue::Value(text_for_cedar(value));
            (name.as_str().into(), value)
        }),
    )
}

fn string_sets(names: &Names, id: &str, sets: &StringSets) -> Entity {
    let tags = sets.iter().map(|(name, set)| {
        let set = texts_for_cedar(set.iter().map(String::as_str));
        (name.as_str().into(), PartialValue::Value(set))
    });
    Entity::new_with_attr_partial_value(
        uid(&names.grants, id),
        [],
        Default::default(),
        Default::default(),
        tags,
    )
}

/// The attributes of an entity as Dogwood's conditions compare them; what they cannot compare is absent.
pub(super) fn attributes_for_dogwood(
    entities: &Entities,
    uid: &EntityUID,
) -> Vec<(String, Dogwood)> {
    let Dereference::Data(entity) = entities.entity(uid) else {
        return Vec::new();
    };
    // Cedar keeps them in the order of their names.
    entity
        .attrs()
        .filter_map(|(name, value)| match value {
            PartialValue::Value(value) => Some((name.to_string(), for_dogwood(value)?)),
            PartialValue::Residual(_) => None,
        })
        .collect()
}

fn for_dogwood(value: &Cedar) -> Option<Dogwood> {
    Some(match value.value_kind() {
        ValueKind::Lit(Literal::Bool(value)) => Dogwood::Bool(*value),
        ValueKind::Lit(Literal::Long(value)) => Dogwood::Int(*value),
        ValueKind::Lit(Literal::String(value)) => Dogwood::String(value.to_string()),
        ValueKind::Lit(Literal::EntityUID(uid)) => Dogwood::Entity {
            ty: uid.entity_type().to_string(),
            id: AsRef::<str>::as_ref(uid.eid()).to_owned(),
        },
        ValueKind::Set(items) => Dogwood::Array(items.iter().filter_map(for_dogwood).collect()),
        ValueKind::Record(fields) => Dogwood::Object(
            fields
                .iter()
                .filter_map(|(name, field)| Some((name.to_string(), for_dogwood(field)?)))
                .collect(),
        ),
        ValueKind::ExtensionValue(_) => return None,
    })
}
