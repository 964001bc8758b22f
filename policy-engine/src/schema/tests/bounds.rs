//! Schemas that are too deep, too large or too many.

use super::*;
use crate::limits::{MAX_ACTIONS, MAX_ENTITY_TYPES, MAX_JSON_DEPTH, MAX_SCHEMA_BYTES};

#[test]
fn types_are_bounded_however_they_are_written() {
    // Each doubles the one before: Cedar would write out 2^40 attributes.
    let doubling = |count: usize| {
        let types: String = (1..=count)
            .map(|n| format!("type T{n} = {{ a: T{0}, b: T{0} }};", n - 1))
            .collect();
        format!("type T0 = Long; {types}")
    };
    shapes(&with(&doubling(8)));
    for declarations in [
        doubling(40),
        doubling(20) + "entity E = T20;",
        "type A = { a: A };".to_owned(),
        "type A = B; type B = C; type C = A;".to_owned(),
        "type A = Set<A>;".to_owned(),
        "type A = { b?: B }; type B = { a?: A };".to_owned(),
    ] {
        assert_eq!(refusals(&with(&declarations)).len(), 1, "{declarations}");
    }
    let chain = |count: usize| {
        let links: String = (1..=count)
            .map(|n| format!("type T{n} = T{};", n - 1))
            .collect();
        with(&format!("type T0 = Long; {links}"))
    };
    shapes(&chain(MAX_JSON_DEPTH - 1));
    assert_eq!(refusals(&chain(MAX_JSON_DEPTH)).len(), 1);
    assert_eq!(refusals(&chain(5_000)).len(), 1);

    let wide = |count: usize| {
        let attributes: String = (0..count).map(|n| format!("x{n}: Long,")).collect();
        action(&format!("{{ {attributes} }}"))
    };
    shapes(&wide(3_000));
    assert_eq!(refusals(&wide(5_000)).len(), 1);

    for hostile in ["Set<", "{a:", "((", "[", "{ a: Set<"] {
        let text = action(&hostile.repeat(10_000));
        assert!(refusals(&text)[0].message.contains("nest"), "{hostile}");
    }
    let long = format!("{TEMPLATE}//{}", " ".repeat(MAX_SCHEMA_BYTES));
    assert!(refusals(&long)[0].message.contains("longer"));
}

#[test]
fn the_numbers_of_actions_and_entity_types_are_bounded() {
    let actions = |count: usize| -> String {
        (0..count)
            .map(|n| format!("action a{n} appliesTo {{ principal: [Agent], resource: [Resource], context: {{ input: {{}}, {CONTEXT} }} }};\n"))
            .collect()
    };
    // One more is the template's.
    let most = MAX_ACTIONS - 1;
    assert_eq!(shapes(&with(&actions(most))).iter().count(), most);
    assert_eq!(refusals(&with(&actions(most + 1))).len(), 1);

    // The worst that Cedar has to close transitively: each is in the one before.
    let chain = |kind: &str, count: usize| -> String {
        let links = (1..count).map(|n| format!("{kind} c{n} in [c{}];\n", n - 1));
        format!("{kind} c0; {}", links.collect::<String>())
    };
    assert_eq!(refusals(&with(&chain("action", most + 1))).len(), 1);
    let most = MAX_ENTITY_TYPES - 6;
    shapes(&with(&chain("entity", most)));
    assert_eq!(refusals(&with(&chain("entity", most + 1))).len(), 1);
}
