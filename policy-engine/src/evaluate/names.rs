//! The entity types of the schema template, parsed once.

use std::str::FromStr;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, ParseErrors};

/// The namespace path of an action, as Dogwood's events have it.
pub(crate) const ACTION_PATH: [&str; 2] = ["Countersign", "Action"];
/// The type of every principal.
pub(crate) const AGENT: &str = "Countersign::Agent";
/// The type of every resource.
pub(crate) const RESOURCE: &str = "Countersign::Resource";

/// The entity types that requests are made of.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) action: EntityTypeName,
    pub(crate) agent: EntityTypeName,
    pub(crate) gateway: EntityTypeName,
    pub(crate) grants: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) operator: EntityTypeName,
    pub(crate) resource: EntityTypeName,
}

impl Names {
    /// Parses them; an error would be a mistake in this file.
    pub(crate) fn new() -> Result<Self, Box<ParseErrors>> {
        let name = |text| EntityTypeName::from_str(text).map_err(Box::new);
        Ok(Self {
            action: name("Countersign::Action")?,
            agent: name(AGENT)?,
            gateway: name("Countersign::Gateway")?,
            grants: name("Countersign::Grants")?,
            group: name("Countersign::Group")?,
            operator: name("Countersign::Operator")?,
            resource: name(RESOURCE)?,
        })
    }
}

/// The entity of that type and id; the id is any string and is never parsed.
pub(crate) fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}
