//! Slices against Cedar's own scan of all policies: random policies with every form of scope, over random hierarchies.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use cedar_policy::{Context, Entities, EntityUid, PolicySet, Request};
use proptest::prelude::*;
use serde_json::json;

use super::super::cedar::{Slices, evaluate};

const TYPES: [&str; 3] = ["User", "Team", "Doc"];

/// One of nine entities, three of each type.
fn entity(number: usize) -> String {
    format!("{}::\"{}\"", TYPES[number % 3], number / 3 % 3)
}

fn action(number: usize) -> String {
    format!("Action::\"{}\"", number % 5)
}

/// A scope of a principal or resource, in every form there is.
fn scope() -> impl Strategy<Value = String> {
    (0..5_usize, 0..9_usize, 0..3_usize).prop_map(|(form, number, of_type)| {
        let (uid, of_type) = (entity(number), TYPES[of_type]);
        match form {
            0 => String::new(),
            1 => format!("== {uid}"),
            2 => format!("in {uid}"),
            3 => format!("is {of_type}"),
            _ => format!("is {of_type} in {uid}"),
        }
    })
}

fn action_scope() -> impl Strategy<Value = String> {
    (0..4_usize, prop::collection::vec(0..5_usize, 0..4)).prop_map(|(form, numbers)| {
        let all: Vec<String> = numbers.iter().copied().map(action).collect();
        let first = action(numbers.first().copied().unwrap_or(0));
        match form {
            0 => String::new(),
            1 => format!("== {first}"),
            2 => format!("in {first}"),
            _ => format!("in [{}]", all.join(", ")),
        }
    })
}

/// Conditions that hold, that do not, that look at the hierarchy, that read what may be absent, that are no boolean.
fn body() -> impl Strategy<Value = String> {
    (0..10_usize, 0..9_usize, 0..9_usize).prop_map(|(form, one, other)| {
        let (one, other) = (entity(one), entity(other));
        match form {
            0 => String::new(),
            1 => "when { false }".to_owned(),
            2 => format!("when {{ principal in {one} }}"),
            3 => format!("unless {{ {one} in {other} }}"),
            4 => format!("when {{ {one}.level > 1 }}"),
            5 => "when { context.a + 9223372036854775807 > 0 }".to_owned(),
            6 => "when { context.session.openedAt == 1 || context has b }".to_owned(),
            7 => format!("when {{ resource.held in {one} }}"),
            8 => "when { context.a }".to_owned(),
            _ => format!("when {{ action in {} }}", action(one.len())),
        }
    })
}

fn policy() -> impl Strategy<Value = String> {
    (any::<bool>(), scope(), action_scope(), scope(), body()).prop_map(
        |(is_permit, principal, action, resource, body)| {
            let effect = if is_permit { "permit" } else { "forbid" };
            format!(
                "{effect} (principal {principal}, action {action}, resource {resource}) {body};\n"
            )
        },
    )
}

/// Entities, each in some with higher numbers; some have a level, some hold another.
fn entities() -> impl Strategy<Value = Entities> {
    let links = prop::collection::btree_set((0..9_usize, 0..9_usize), 0..14);
    let actions = prop::collection::btree_set((0..5_usize, 0..5_usize), 0..5);
    (links, actions, 0..9_usize).prop_map(|(links, actions, absent)| {
        let uid =
            |number: usize| json!({"type": TYPES[number % 3], "id": (number / 3).to_string()});
        let above = |links: &BTreeSet<(usize, usize)>, number| -> Vec<usize> {
            let of = links
                .iter()
                .filter(|(low, high)| *low == number && high > low);
            of.map(|(_, high)| *high).collect()
        };
        let plain = (0..9).filter(|number| *number != absent).map(|number| {
            let parents: Vec<_> = above(&links, number).into_iter().map(uid).collect();
            let attributes = match number % 4 {
                0 => json!({"level": number}),
                1 => json!({"held": {"__entity": uid((number + 4) % 9)}}),
                _ => json!({}),
            };
            json!({"uid": uid(number), "attrs": attributes, "parents": parents})
        });
        let action = |number: usize| json!({"type": "Action", "id": number.to_string()});
        let acts = (0..5).map(|number| {
            let parents: Vec<_> = above(&actions, number).into_iter().map(action).collect();
            json!({"uid": action(number), "attrs": {}, "parents": parents})
        });
        let all: Vec<_> = plain.chain(acts).collect();
        Entities::from_json_value(all.into(), None).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn slices_answer_as_a_scan_of_all_policies_does(
        policies in prop::collection::vec(policy(), 0..24),
        entities in entities(),
        requests in prop::collection::vec((0..9_usize, 0..5_usize, 0..9_usize, 0..3_i64), 12),
    ) {
        let policies = PolicySet::from_str(&policies.concat()).unwrap();
        let slices = Slices::new(&policies);
        for (principal, act, resource, a) in requests {
            let uid = |text: String| text.parse::<EntityUid>().unwrap();
            let context = match a {
                0 => json!({}),
                1 => json!({"a": 1, "b": true}),
                _ => json!({"a": true, "session": {"openedAt": 1}}),
            };
            let context = Context::from_json_value(context, None).unwrap();
            let (principal, act, resource) = (uid(entity(principal)), uid(action(act)), uid(entity(resource)));
            let request = Request::new(principal, act, resource, context, None).unwrap();
            prop_assert_eq!(slices.answer(&entities, &request), evaluate(&policies, &entities, &request));
        }
    }
}

#[test]
fn only_policies_whose_scope_matches_are_looked_at() {
    let rule = |number: usize| {
        format!(
            "permit (principal == User::\"{number}\", action == Action::\"0\", resource in Doc::\"{number}\");"
        )
    };
    let policies: String = (0..1_000).map(rule).collect();
    let slices = Slices::new(&PolicySet::from_str(&policies).unwrap());
    let uid = |text: &str| {
        let uid: EntityUid = text.parse().unwrap();
        super::Placed {
            uid: AsRef::<cedar_policy_core::ast::EntityUID>::as_ref(&uid).clone(),
            ancestors: BTreeSet::new(),
        }
    };
    let slice = slices.slice(
        &uid("User::\"7\""),
        &uid("Action::\"0\""),
        &uid("Doc::\"7\""),
    );
    assert_eq!(slice.len(), 1);
    let other = slices.slice(
        &uid("User::\"7\""),
        &uid("Action::\"0\""),
        &uid("Doc::\"8\""),
    );
    assert!(other.is_empty());
}
