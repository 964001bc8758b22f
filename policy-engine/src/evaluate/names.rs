//! The entity types of the schema template, and the functions that make values, parsed once.

use std::str::FromStr;

use cedar_policy_core::ast::{Eid, EntityType, EntityUID, Name};
use cedar_policy_core::parser::err::ParseErrors;

/// The namespace path of an action, as Dogwood's events have it.
pub(crate) const ACTION_PATH: [&str; 2] = ["Countersign", "Action"];
/// The type of every principal.
pub(crate) const AGENT: &str = "Countersign::Agent";
/// The type of whoever presents requests and records outcomes for agents.
pub(crate) const GATEWAY: &str = "Countersign::Gateway";
/// The type of every resource.
pub(crate) const RESOURCE: &str = "Countersign::Resource";

/// The entity types that requests are made of.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) action: EntityType,
    pub(crate) agent: EntityType,
    pub(crate) gateway: EntityType,
    pub(crate) grants: EntityType,
    pub(crate) group: EntityType,
    pub(crate) operator: EntityType,
    pub(crate) resource: EntityType,
    /// Cedar's function that makes a `datetime`.
    pub(crate) datetime: Name,
    /// Cedar's function that makes a `decimal`.
    pub(crate) decimal: Name,
}

impl Names {
    /// Parses them; an error would be a mistake in this file.
    pub(crate) fn new() -> Result<Self, Box<ParseErrors>> {
        let name = |text| Name::from_str(text).map(EntityType::from).map_err(Box::new);
        Ok(Self {
            action: name("Countersign::Action")?,
            agent: name(AGENT)?,
            gateway: name(GATEWAY)?,
            grants: name("Countersign::Grants")?,
            group: name("Countersign::Group")?,
            operator: name("Countersign::Operator")?,
            resource: name(RESOURCE)?,
            datetime: Name::from_str("datetime").map_err(Box::new)?,
            decimal: Name::from_str("decimal").map_err(Box::new)?,
        })
    }
}

/// The entity of that type and id; the id is any string and is never parsed.
pub(crate) fn uid(of_type: &EntityType, id: &str) -> EntityUID {
    EntityUID::from_components(of_type.clone(), Eid::new(id), None)
}
