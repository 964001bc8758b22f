//! What a rule's annotations say: its id, what to tell the caller, how long a permit lives, whether it is used once, whose
//! approval it needs.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy};

use crate::decision::{Approver, Condition};
use crate::limits::{
    MAX_ANNOTATION_BYTES, MAX_APPROVALS, MAX_APPROVER_GROUPS, MAX_PERMIT_TTL_S, MAX_RULE_ID_BYTES,
};

/// The annotations that mean something here.
const KNOWN: [&str; 6] = [
    "advice",
    "approvers",
    "id",
    "obligation",
    "permit_ttl",
    "single_use",
];

/// What they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) id: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) permit_ttl_s: Option<u32>,
    pub(super) single_use: bool,
    pub(super) approvers: Vec<Approver>,
}

/// What is wrong with an annotation, and the mend.
pub(super) type Refusal = (String, String);

impl Annotations {
    pub(super) fn read(policy: &Policy) -> Result<Self, Vec<Refusal>> {
        let mut refusals: Vec<Refusal> = policy
            .annotations()
            .filter(|(name, _)| !KNOWN.contains(name))
            .map(|(name, _)| unknown(name))
            .collect();
        // They come in no order.
        refusals.sort_unstable();
        let id = kept(read_id(policy.annotation("id")), &mut refusals);
        let mut conditions = Vec::new();
        for (name, critical) in [("obligation", true), ("advice", false)] {
            let condition = policy
                .annotation(name)
                .map(|text| read_condition(name, text, critical));
            conditions.extend(condition.and_then(|read| kept(read, &mut refusals)));
        }
        conditions.sort_unstable();
        let permit_ttl_s = policy
            .annotation("permit_ttl")
            .and_then(|text| kept(read_ttl(text), &mut refusals));
        let single_use = policy
            .annotation("single_use")
            .and_then(|text| kept(read_single_use(text), &mut refusals));
        let approvers = policy
            .annotation("approvers")
            .and_then(|text| kept(read_approvers(text), &mut refusals));
        for name in ["permit_ttl", "single_use", "approvers"] {
            if policy.effect() == Effect::Forbid && policy.annotation(name).is_some() {
                let message = format!("@{name} on a forbid means nothing");
                refusals.push((
                    message,
                    "move it to the permit that it is meant for".to_owned(),
                ));
            }
        }
        match id {
            Some(id) if refusals.is_empty() => Ok(Self {
                id,
                conditions,
                permit_ttl_s,
                single_use: single_use.is_some(),
                approvers: approvers.unwrap_or_default(),
            }),
            _ => Err(refusals),
        }
    }
}

fn kept<T>(read: Result<T, Refusal>, refusals: &mut Vec<Refusal>) -> Option<T> {
    read.map_err(|refusal| refusals.push(refusal)).ok()
}

/// One that is misspelt would protect nobody, so that none may be unknown.
fn unknown(name: &str) -> Refusal {
    let known: Vec<String> = KNOWN.iter().map(|name| format!("@{name}")).collect();
    (
        format!("no rule has an annotation @{}", name.escape_debug()),
        format!("write one of {}, or a comment", known.join(", ")),
    )
}

fn read_id(text: Option<&str>) -> Result<String, Refusal> {
    let refusal = |message: &str| {
        (
            message.to_owned(),
            "begin it with @id(\"…\"), or let `policy check --fix` add ids".to_owned(),
        )
    };
    match text {
        None => Err(refusal("the rule has no @id")),
        Some(id) if id.is_empty() || id.len() > MAX_RULE_ID_BYTES => Err(refusal(&format!(
            "the rule's @id is empty or longer than {MAX_RULE_ID_BYTES} bytes"
        ))),
        Some(id) if id.chars().any(char::is_control) => {
            Err(refusal("the rule's @id has control characters"))
        }
        Some(id) => Ok(id.to_owned()),
    }
}

fn read_condition(name: &str, text: &str, critical: bool) -> Result<Condition, Refusal> {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    if kind.is_empty() || text.len() > MAX_ANNOTATION_BYTES {
        return Err((
            format!("@{name} has no type or is longer than {MAX_ANNOTATION_BYTES} bytes"),
            format!("write @{name}(\"type\") or @{name}(\"type:value\")"),
        ));
    }
    Ok(Condition {
        kind: kind.to_owned(),
        value: value.to_owned(),
        critical,
    })
}

fn read_ttl(text: &str) -> Result<u32, Refusal> {
    number(text)
        .filter(|ttl| (1..=MAX_PERMIT_TTL_S).contains(ttl))
        .ok_or_else(|| {
            (
                format!("@permit_ttl is not a number of seconds from 1 to {MAX_PERMIT_TTL_S}"),
                "write for example @permit_ttl(\"120\")".to_owned(),
            )
        })
}

/// A number in its one spelling, so that neither `+60` nor `060` passes for 60.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The annotation is there or not; a value could only be taken for a way to switch it off.
fn read_single_use(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Ok(());
    }
    Err((
        "@single_use has no value".to_owned(),
        "write @single_use, or leave it away".to_owned(),
    ))
}

fn read_approvers(text: &str) -> Result<Vec<Approver>, Refusal> {
    let refusal = |message: String| {
        Err((
            message,
            "write for example @approvers(\"finance:2,legal\")".to_owned(),
        ))
    };
    let mut counts = BTreeMap::new();
    for item in text.split(',') {
        let (group, count) = item.split_once(':').unwrap_or((item, "1"));
        let group = group.trim();
        let count = number(count.trim()).filter(|count| (1..=MAX_APPROVALS).contains(count));
        let Some(count) = count.filter(|_| !group.is_empty() && text.len() <= MAX_ANNOTATION_BYTES)
        else {
            return refusal(format!(
                "@approvers does not list groups, each with 1 to {MAX_APPROVALS} approvals"
            ));
        };
        if counts.insert(group.to_owned(), count).is_some() {
            return refusal("@approvers names a group twice".to_owned());
        }
    }
    if counts.len() > MAX_APPROVER_GROUPS {
        return refusal(format!(
            "@approvers names more than {MAX_APPROVER_GROUPS} groups"
        ));
    }
    Ok(counts
        .into_iter()
        .map(|(group, count)| Approver { group, count })
        .collect())
}
