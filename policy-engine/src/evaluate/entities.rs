//! The entities a request brings with it: the agent, its owner and groups, the resource, the presenter, grants and claims.
//!
//! What the bundle says of an entity stands; the request adds what the bundle is silent about. The agent is the registry's
//! alone, so a bundle cannot describe one.

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};
use dogwood_language::Value as Dogwood;

use crate::evaluate::context::{CLAIMS, GRANTS, texts_for_cedar};
use crate::evaluate::names::{Names, uid};
use crate::request::{Request, StringSets};

/// Why the entities of a request cannot be built: an attribute that Cedar refuses, or a cycle through the bundle's own.
#[derive(Debug)]
pub(super) struct Inconsistent;

/// The bundle's entities, with those of the request.
pub(super) fn build(
    names: &Names,
    bundle: &Entities,
    request: &Request,
) -> Result<Entities, Inconsistent> {
    let mut added = vec![
        agent(names, request)?,
        string_sets(names, GRANTS, &request.session.grants)?,
        string_sets(names, CLAIMS, &request.claims)?,
    ];
    let mut silent = |entity: Entity| {
        if bundle.get(&entity.uid()).is_none() {
            added.push(entity);
        }
    };
    silent(resource(names, request)?);
    silent(Entity::with_uid(uid(&names.operator, &request.agent.owner)));
    for group in &request.agent.groups {
        silent(Entity::with_uid(uid(&names.group, group)));
    }
    if let Some(presenter) = &request.presenter {
        silent(Entity::with_uid(uid(&names.gateway, presenter)));
    }
    bundle
        .clone()
        .add_entities(added, None)
        .map_err(|_| Inconsistent)
}

fn agent(names: &Names, request: &Request) -> Result<Entity, Inconsistent> {
    let agent = &request.agent;
    entity(
        uid(&names.agent, &agent.id),
        vec![(
            "owner".to_owned(),
            RestrictedExpression::new_entity_uid(uid(&names.operator, &agent.owner)),
        )],
        agent.groups.iter().map(|group| uid(&names.group, group)),
        agent.attributes.iter(),
    )
}

/// The resource as a gateway asserted it. If none said what type it is, it has no `type`, and a rule that reads it errs:
/// a permit is then no permit, and a forbid denies.
fn resource(names: &Names, request: &Request) -> Result<Entity, Inconsistent> {
    let resource = &request.resource;
    let kind = resource.kind.iter().map(|kind| {
        (
            "type".to_owned(),
            RestrictedExpression::new_string(kind.clone()),
        )
    });
    entity(
        uid(&names.resource, &resource.id),
        kind.collect(),
        resource
            .parents
            .iter()
            .map(|parent| uid(&names.resource, parent)),
        resource.attributes.iter(),
    )
}

fn entity<'a>(
    uid: EntityUid,
    attributes: Vec<(String, RestrictedExpression)>,
    parents: impl Iterator<Item = EntityUid>,
    tags: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Entity, Inconsistent> {
    let tags = tags.map(|(name, value)| {
        (
            name.clone(),
            RestrictedExpression::new_string(value.clone()),
        )
    });
    Entity::new_with_tags(uid, attributes, parents, tags).map_err(|_| Inconsistent)
}

fn string_sets(names: &Names, id: &str, sets: &StringSets) -> Result<Entity, Inconsistent> {
    let tags = sets.iter().map(|(name, set)| {
        (
            name.clone(),
            texts_for_cedar(set.iter().map(String::as_str)),
        )
    });
    Entity::new_with_tags(uid(&names.grants, id), [], [], tags).map_err(|_| Inconsistent)
}

/// The attributes of an entity as Dogwood's conditions compare them; what they cannot compare is absent.
pub(super) fn attributes_for_dogwood(
    entities: &Entities,
    uid: &EntityUid,
) -> Vec<(String, Dogwood)> {
    let Some(entity) = entities.get(uid) else {
        return Vec::new();
    };
    let mut attributes: Vec<_> = entity
        .attrs()
        .filter_map(|(name, value)| Some((name.to_owned(), for_dogwood(value.ok()?)?)))
        .collect();
    attributes.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    attributes
}

fn for_dogwood(value: cedar_policy::EvalResult) -> Option<Dogwood> {
    use cedar_policy::EvalResult;
    Some(match value {
        EvalResult::Bool(value) => Dogwood::Bool(value),
        EvalResult::Long(value) => Dogwood::Int(value),
        EvalResult::String(value) => Dogwood::String(value),
        EvalResult::EntityUid(uid) => Dogwood::Entity {
            ty: uid.type_name().to_string(),
            id: uid.id().unescaped().to_owned(),
        },
        EvalResult::Set(items) => {
            Dogwood::Array(items.iter().cloned().filter_map(for_dogwood).collect())
        }
        EvalResult::Record(fields) => Dogwood::Object(
            fields
                .iter()
                .filter_map(|(name, field)| Some((name.clone(), for_dogwood(field.clone())?)))
                .collect(),
        ),
        EvalResult::ExtensionValue(_) => return None,
    })
}
