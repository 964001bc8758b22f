//! Each finding, on a rule that has it and on one that does not.

use crate::fixtures::bundle;
use crate::{Severity, check};

const SCOPE: &str = "principal, action == Countersign::Action::\"bank/pay\", resource";

/// What is said about a rule file; the warning about actions without a rule is left out.
fn said(rules: &str) -> Vec<String> {
    let found = check(&bundle(rules)).into_iter();
    found
        .filter(|finding| !finding.message.starts_with("no rule is about"))
        .map(|finding| {
            assert!(!finding.mend.is_empty(), "{finding}");
            finding.to_string()
        })
        .collect()
}

/// A permit for payments under conditions of Cedar's.
fn when(condition: &str) -> String {
    format!("@id(\"a\")\npermit ({SCOPE}) when {{ {condition} }};")
}

/// The same under a condition over the past.
fn past(condition: &str) -> String {
    format!("@id(\"a\")\npermit ({SCOPE}) when temporal {{ {condition} }};")
}

/// A finding, a rule that has it, and one that does not.
type Row = (&'static str, String, String);

fn about_the_past() -> Vec<Row> {
    let event = |kind: &str| format!("Countersign::Action::\"bank/pay\"::{kind}");
    vec![
        (
            "counts events of outcomes",
            past(&format!("count_within(1h, {}{{}}) < 3", event("response"))),
            past(&format!("count_within(1h, {}{{}}) < 3", event("allowed"))),
        ),
        (
            "counts events of outcomes",
            past(&format!(
                "bind(spent, sum_within(a, 1h, {}{{input.amount: a}}), spent < 3)",
                event("response")
            )),
            past(&format!("formerly within 1h {}{{}}", event("response"))),
        ),
        (
            "reads `::request` events",
            past(&format!("formerly within 1h {}{{}}", event("request"))),
            past(&format!("formerly within 1h {}{{}}", event("allowed"))),
        ),
    ]
}

fn never() -> Vec<Row> {
    vec![
        (
            "its scope and conditions are always false",
            when("context.input.amount > 1 && false"),
            when("context.input.amount > 1"),
        ),
        (
            "`context.input.to` cannot be \"a\" and \"b\" at once",
            when("context.input.to == \"a\" && \"b\" == context.input.to"),
            when("context.input.to == \"a\" || context.input.to == \"b\""),
        ),
        (
            "cannot be at least 11 and at most 9 at once",
            when("context.input.amount > 10 && context.input.amount < 10"),
            when("context.input.amount >= 10 && context.input.amount <= 10"),
        ),
        (
            "cannot be at least 10 and at most 9 at once",
            when("10 <= context.input.amount && 10 > context.input.amount"),
            when("9 <= context.input.amount && 10 > context.input.amount"),
        ),
        (
            "cannot be at least 5 and at most 3 at once",
            when("context.input.amount == 5 && context.input.amount <= 3"),
            when("context.input.amount == 5 && context.input.amount <= 5"),
        ),
    ]
}

#[test]
fn each_finding_is_found_where_it_is_and_nowhere_else() {
    for (finding, bad, good) in [about_the_past(), never()].concat() {
        let found = said(&bad);
        assert!(
            found.iter().any(|said| said.contains(finding)),
            "{finding}: {bad} gives {found:#?}"
        );
        let place = "rules/main.dw:1: warning in rule `a`: ";
        assert!(
            found.iter().all(|said| said.starts_with(place)),
            "{found:#?}"
        );
        assert_eq!(said(&good), Vec::<String>::new(), "{good}");
    }
}

/// What a permit is said to let the agent's own word satisfy, if anything.
fn own_word(rules: &str) -> Option<String> {
    let text = "the permit can be satisfied by the agent's own word: ";
    let found = said(rules);
    let mut words = found
        .iter()
        .filter_map(|said| Some(said.split_once(text)?.1.to_owned()));
    words.next()
}

#[test]
fn a_permit_that_the_agents_own_word_can_satisfy_is_found_on_every_way() {
    let claims = "context.request.claims.hasTag(\"ok\")";
    let granted = "context.session.grants.hasTag(\"ok\")";
    let purpose = "context.session has purpose && context.session.purpose == \"payout\"";
    let operator = "context.session.issuer has operator && context.session.issuer.operator == Countersign::Operator::\"ada\"";
    let subject = "context.session has subject && context.session.subject.sub == \"carol\"";
    let both = "context.request.assurance == \"BOTH_SIGNED\"";
    let agents = "context.session.issuer has agent";
    for condition in [
        claims.to_owned(),
        format!("!({claims})"),
        "context.session.delegated".to_owned(),
        agents.to_owned(),
        format!("{agents} && context.session.issuer.agent == Countersign::Agent::\"boss\""),
        // Who the agent is, and what it asks for, bounds the permit; nobody vouches for the claim by it.
        format!(
            "{claims} && principal in Countersign::Group::\"payers\" && context.input.amount < 10"
        ),
        format!("{claims} && resource == Countersign::Resource::\"a\""),
        // One way of several.
        format!("{granted} || {claims}"),
        format!("{claims} && ({granted} || context.input.amount < 10)"),
        format!("if {granted} then context.input.amount < 10 else {claims}"),
        format!("!({granted} || !({claims}))"),
        format!("{claims} && !({granted})"),
        format!("{claims} && context.request.assurance != \"BOTH_SIGNED\""),
    ] {
        assert!(own_word(&when(&condition)).is_some(), "{condition}");
    }
    for condition in [
        "context.input.amount < 10".to_owned(),
        granted.to_owned(),
        purpose.to_owned(),
        operator.to_owned(),
        format!("{claims} && {granted}"),
        format!("{claims} && {purpose}"),
        format!("{claims} && {operator}"),
        format!("{claims} && {subject}"),
        format!("{claims} && {both}"),
        format!("{claims} && context.request has presenter"),
        format!("{claims} && resource.type == \"open\""),
        format!("{claims} && !({agents})"),
        format!("({claims} || context.input.amount < 10) && {granted}"),
        format!("if {granted} then {claims} else context.input.amount < 10"),
        format!("{granted} && ({claims} || !({claims}))"),
    ] {
        assert_eq!(own_word(&when(&condition)), None, "{condition}");
    }
}

#[test]
fn what_an_agent_reports_is_its_own_word_and_what_a_gateway_recorded_is_not() {
    let event =
        |kind: &str| format!("formerly within 1h Countersign::Action::\"bank/pay\"::{kind}{{}}");
    let since = |not: &str, kept: &str, begun: &str| {
        let of = |kind: &str| format!("Countersign::Action::\"bank/pay\"::{kind}{{}}");
        format!("{not}{} since within 1h {}", of(kept), of(begun))
    };
    let claims = "context.request.claims.hasTag(\"ok\")";
    let (reported, recorded) = (event("self_reported_response"), event("response"));
    for condition in [
        reported.clone(),
        format!("!({})", event("self_reported_error")),
        format!("!(!({recorded}) && !({reported}))"),
        format!("({reported}) && ({})", event("allowed")),
        "count_within(1h, Countersign::Action::\"bank/pay\"::self_reported_response{}) > 1"
            .to_owned(),
        since("", "self_reported_response", "allowed"),
        since("", "allowed", "self_reported_response"),
        format!("!({})", since("!", "self_reported_error", "response")),
    ] {
        assert!(own_word(&past(&condition)).is_some(), "{condition}");
    }
    for condition in [
        recorded.clone(),
        format!("!({})", event("error")),
        format!("({recorded}) && ({reported})"),
        event("allowed"),
        since("!", "self_reported_error", "response"),
        since("!", "denied", "allowed"),
    ] {
        assert_eq!(own_word(&past(&condition)), None, "{condition}");
    }
    let both = format!("permit ({SCOPE}) when {{ {claims} }} when temporal {{ {recorded} }};");
    assert_eq!(own_word(&format!("@id(\"a\")\n{both}")), None);
    assert_eq!(
        own_word(&format!("@id(\"a\") @approvers(\"sre\")\n{both}")),
        None
    );
    let forbid = format!("@id(\"a\")\nforbid ({SCOPE}) when {{ {claims} }};");
    assert_eq!(own_word(&forbid), None);
}

#[test]
fn a_permit_under_a_forbid_that_covers_it_is_found() {
    let agent = "principal == Countersign::Agent::\"x\"";
    let group = "principal in Countersign::Group::\"g\"";
    let pay = "action == Countersign::Action::\"bank/pay\"";
    let tools = "action in Countersign::Action::\"CallTool\"";
    let some = "action in [Countersign::Action::\"bank/pay\", Countersign::Action::\"read\"]";
    let shadowed = |permit: (&str, &str), forbid: (&str, &str), condition: &str| {
        let rules = format!(
            "@id(\"p\") permit ({}, {}, resource);\n@id(\"f\") forbid ({}, {}, resource){condition};",
            permit.0, permit.1, forbid.0, forbid.1
        );
        let found = said(&rules);
        for said in &found {
            assert!(
                said.contains("in rule `p`: the permit can never allow anything: the forbid `f` at rules/main.dw:2"),
                "{said}"
            );
        }
        !found.is_empty()
    };
    for (permit, forbid) in [
        (("principal", pay), ("principal", "action")),
        (("principal", pay), ("principal", tools)),
        (
            ("principal", pay),
            ("principal is Countersign::Agent", some),
        ),
        ((agent, some), ("principal", tools)),
        ((agent, pay), (agent, pay)),
        ((group, pay), (group, some)),
    ] {
        assert!(shadowed(permit, forbid, ""), "{permit:?} {forbid:?}");
        assert!(
            !shadowed(permit, forbid, " when { context.session.delegated }"),
            "{permit:?} {forbid:?}"
        );
    }
    for (permit, forbid) in [
        (("principal", tools), ("principal", pay)),
        (("principal", pay), (agent, pay)),
        ((agent, pay), (group, pay)),
        // "deploy" is in no group.
        (("principal", "action"), ("principal", tools)),
    ] {
        assert!(!shadowed(permit, forbid, ""), "{permit:?} {forbid:?}");
    }
}

#[test]
fn actions_that_no_rule_is_about_are_counted_and_named() {
    let about = |rules: &str| {
        let found = check(&bundle(rules)).into_iter();
        let found = found.filter(|finding| finding.message.starts_with("no rule is about"));
        let found: Vec<String> = found.map(|finding| finding.to_string()).collect();
        found.join("\n")
    };
    let all = about("");
    assert!(all.starts_with("schema.cedarschema: warning: no rule is about `approve`, `bank/pay`, `deploy`, `login`, `read`"), "{all}");
    let left = about(
        "@id(\"a\") permit (principal, action in Countersign::Action::\"CallTool\", resource);",
    );
    assert!(left.contains("no rule is about `deploy`, so"), "{left}");
    assert_eq!(
        about("@id(\"a\") forbid (principal, action, resource);"),
        ""
    );
}

#[test]
fn an_action_that_is_not_there_is_an_error_with_its_place() {
    let found = check(&bundle(
        "\n@id(\"a\") permit (principal, action == Countersign::Action::\"bank/pai\", resource);",
    ));
    assert_eq!(found[0].severity, Severity::Error);
    let told = found[0].to_string();
    assert!(
        told.starts_with("rules/main.dw:2: error in rule `a`: "),
        "{told}"
    );
    assert!(told.contains("bank/pai"), "{told}");
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_scope_of_a_type_that_no_principal_has_is_an_error_in_our_words() {
    let scoped = |kind: &str| {
        check(&bundle(&format!(
            "@id(\"a\") permit (principal is Countersign::{kind}, action, resource);"
        )))
    };
    let found = scoped("Gateway");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].severity, Severity::Error);
    let told = found[0].to_string();
    assert!(
        told.starts_with("rules/main.dw:1: error in rule `a`: the rule can never match: no action"),
        "{told}"
    );
    assert_eq!(scoped("Agent"), []);
}
