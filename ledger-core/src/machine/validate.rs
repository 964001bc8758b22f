//! Fields of command bodies, checked.

use ledger_proto::v1;

use super::context::Stop;
use crate::canonical;
use crate::id::{check_namespace, check_optional_text, check_text};
use crate::limits::{
    MAX_ACTION_LEN, MAX_ACTS_FOR, MAX_ID_LEN, MAX_LIST_LEN, MAX_NAME_LEN, MAX_RESOURCE_LEN,
    MAX_VALUE_LEN,
};

/// A valid field, or the rejection.
pub(super) fn valid(condition: bool) -> Result<(), Stop> {
    if condition {
        Ok(())
    } else {
        Err(v1::Result::InvalidArgument.into())
    }
}

/// An id of an identity or a halt.
pub(super) fn id(text: &str) -> Result<(), Stop> {
    valid(check_text(text, MAX_ID_LEN).is_ok())
}

/// A namespace name.
pub(super) fn namespace(text: &str) -> Result<(), Stop> {
    valid(check_namespace(text).is_ok())
}

/// A text for people; may be empty.
pub(super) fn label(text: &str) -> Result<(), Stop> {
    valid(check_optional_text(text, MAX_VALUE_LEN).is_ok())
}

/// Group names or ids: ascending, distinct.
pub(super) fn names(list: &[String]) -> Result<(), Stop> {
    valid(
        list.len() <= MAX_LIST_LEN
            && is_ascending(list)
            && list.iter().all(|name| check_text(name, MAX_ID_LEN).is_ok()),
    )
}

/// Attributes: ascending by name, distinct names.
pub(super) fn attributes(list: &[v1::Attribute]) -> Result<(), Stop> {
    let names: Vec<&str> = list
        .iter()
        .map(|attribute| attribute.name.as_str())
        .collect();
    valid(
        list.len() <= MAX_LIST_LEN
            && is_ascending(&names)
            && list.iter().all(|attribute| {
                check_text(&attribute.name, MAX_NAME_LEN).is_ok()
                    && attribute.value.len() <= MAX_VALUE_LEN
            }),
    )
}

/// What a gateway acts for.
pub(super) fn acts_for(list: &[v1::ActsFor]) -> Result<(), Stop> {
    valid(!list.is_empty() && list.len() <= MAX_ACTS_FOR)?;
    for target in list {
        match &target.target {
            Some(v1::acts_for::Target::Agent(agent)) => id(agent)?,
            Some(v1::acts_for::Target::Group(group)) => id(group)?,
            None => valid(false)?,
        }
    }
    Ok(())
}

/// What a gateway may do: known, ascending, distinct.
pub(super) fn permissions(list: &[i32]) -> Result<(), Stop> {
    let known = |number: &i32| {
        v1::GatewayPermission::try_from(*number)
            .is_ok_and(|permission| permission != v1::GatewayPermission::Unspecified)
    };
    valid(is_ascending(list) && list.iter().all(known))
}

/// Roles: known, ascending by (role, namespace), distinct, each for a namespace or "*".
pub(super) fn roles(list: &[v1::RoleGrant]) -> Result<(), Stop> {
    let pairs: Vec<(i32, &str)> = list
        .iter()
        .map(|grant| (grant.role, grant.namespace.as_str()))
        .collect();
    let known = |grant: &v1::RoleGrant| {
        v1::Role::try_from(grant.role).is_ok_and(|role| role != v1::Role::Unspecified)
            && (grant.namespace == super::authority::WHOLE_LEDGER
                || check_namespace(&grant.namespace).is_ok())
    };
    valid(list.len() <= MAX_LIST_LEN && is_ascending(&pairs) && list.iter().all(known))
}

/// A minimum assurance; unspecified means none.
pub(super) fn assurance(number: i32) -> Result<(), Stop> {
    valid(v1::Assurance::try_from(number).is_ok())
}

/// Who may open an agent's sessions; unspecified means whoever may open any.
pub(super) fn session_issuers(number: i32) -> Result<(), Stop> {
    valid(v1::SessionIssuers::try_from(number).is_ok())
}

/// Action patterns: exact ids, or prefixes that end in "*"; at least one; ascending, distinct.
pub(super) fn patterns(list: &[String]) -> Result<(), Stop> {
    valid(
        !list.is_empty()
            && list.len() <= MAX_LIST_LEN
            && is_ascending(list)
            && list.iter().all(|text| is_pattern(text)),
    )
}

/// An exact action id, or a prefix that ends in "*".
pub(super) fn is_pattern(text: &str) -> bool {
    check_text(text, MAX_ACTION_LEN).is_ok()
        && !text.strip_suffix('*').unwrap_or(text).contains('*')
}

/// True if each element is greater than the one before.
pub(super) fn is_ascending<T: PartialOrd>(list: &[T]) -> bool {
    list.windows(2).all(|pair| match pair {
        [a, b] => a < b,
        _ => true,
    })
}

/// True if the bytes are absent or have exactly this length.
pub(super) const fn is_empty_or(bytes: &[u8], len: usize) -> bool {
    bytes.is_empty() || bytes.len() == len
}

/// The facts in a RESOURCE compartment; none if they are malformed.
pub(super) fn resource(content: &[u8]) -> Option<v1::ResourceFacts> {
    let limit = usize::try_from(MAX_RESOURCE_LEN).ok()?;
    let facts: v1::ResourceFacts = canonical::decode(content, limit).ok()?;
    let names: Vec<&str> = facts
        .attributes
        .iter()
        .map(|attribute| attribute.name.as_str())
        .collect();
    let valid = facts.id.len() <= MAX_VALUE_LEN
        && facts.r#type.len() <= MAX_NAME_LEN
        && facts.parents.len() <= MAX_LIST_LEN
        && names.len() <= MAX_LIST_LEN
        && is_ascending(&facts.parents)
        && facts
            .parents
            .iter()
            .all(|parent| !parent.is_empty() && parent.len() <= MAX_VALUE_LEN)
        && is_ascending(&names)
        && names
            .iter()
            .all(|name| !name.is_empty() && name.len() <= MAX_NAME_LEN);
    valid.then_some(facts)
}
