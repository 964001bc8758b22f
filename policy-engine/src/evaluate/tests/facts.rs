//! Facts: that each reaches the rules, from the party that vouches for it, and stays what it is.

use std::collections::{BTreeMap, BTreeSet};

use super::{PERMIT_ALL, decide, pay};
use crate::fixtures::{SECOND_US, START_US, World, bundle_of, ids, request};
use crate::*;

#[test]
fn every_fact_reaches_the_rules() {
    let rules = "@id(\"all-facts\") permit (
        principal in Countersign::Group::\"billing\",
        action in Countersign::Action::\"CallTool\",
        resource in Countersign::Resource::\"ledger\")
      when {
        principal.owner == Countersign::Operator::\"alice\" &&
        principal.hasTag(\"team\") && principal.getTag(\"team\") == \"payments\" &&
        resource.type == \"account\" && resource.hasTag(\"tier\") && resource.getTag(\"tier\") == \"gold\" &&
        context.system.now == datetime(\"2026-01-01T00:00:00.000Z\") &&
        context.session.openedAt == datetime(\"2026-01-01\") &&
        context.session has purpose && context.session.purpose == \"refunds\" &&
        context.session.issuer has operator && context.session.issuer.operator == Countersign::Operator::\"alice\" &&
        !context.session.delegated && context.session.seq == 1 &&
        context.session has subject && context.session.subject.sub == \"carol\" &&
        context.session.grants.hasTag(\"to\") && context.session.grants.getTag(\"to\").contains(\"bob\") &&
        context.request.claims.hasTag(\"why\") && context.request.claims.getTag(\"why\").contains(\"because\") &&
        context.request.assurance == \"BOTH_SIGNED\" &&
        context.request has presenter && context.request.presenter == Countersign::Gateway::\"gw\" &&
        context.request has approval && context.request.approval.groups.contains(\"legal\") &&
        context.request.approval.count == 2
      };";
    let entities = r#"[
      {"uid": {"type": "Countersign::Group", "id": "billing"}, "attrs": {}, "parents": []},
      {"uid": {"type": "Countersign::Resource", "id": "accounts"}, "attrs": {"type": "folder"},
       "parents": [{"type": "Countersign::Resource", "id": "ledger"}]}]"#;
    let bundle = bundle_of(
        "agent",
        &[("rules/main.dw", rules), ("entities.json", entities)],
    );
    let compiled = Compiled::compile(&bundle).unwrap_or_else(|findings| panic!("{findings:#?}"));
    let mut request = pay(1);
    request.assurance = Assurance::BothSigned;
    request.presenter = Some("gw".to_owned());
    request.approval = Some(Approval {
        groups: BTreeMap::from([("legal".to_owned(), 1)]),
        count: 2,
    });
    request.session.subject = Some(Subject {
        iss: "idp".to_owned(),
        sub: "carol".to_owned(),
        assurance: "ISSUER_ASSERTED".to_owned(),
    });
    let sets = |name: &str, value: &str| {
        StringSets::from([(name.to_owned(), BTreeSet::from([value.to_owned()]))])
    };
    request.session.grants = sets("to", "bob");
    request.claims = sets("why", "because");
    request.resource = Resource {
        id: "account-1".to_owned(),
        kind: Some("account".to_owned()),
        parents: BTreeSet::from(["accounts".to_owned()]),
        attributes: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
    };
    let decide = |request: &Request| {
        compiled
            .decide(&Starts::new(), &Partition::default(), request)
            .unwrap()
            .decision
    };
    assert_eq!(ids(&decide(&request)), ["all-facts"]);
    let mut other = request.clone();
    other.agent.groups.clear();
    assert_eq!(decide(&other).verdict, Verdict::Deny);
    let mut other = request.clone();
    other.resource.parents.clear();
    assert_eq!(decide(&other).verdict, Verdict::Deny);
    let mut other = request;
    other.session.grants.clear();
    assert_eq!(decide(&other).verdict, Verdict::Deny);
}

#[test]
fn what_the_bundle_says_of_a_resource_is_never_overridden() {
    let rules =
        "@id(\"open\") permit (principal, action, resource) when { resource.type == \"public\" };
        @id(\"sealed\") forbid (principal, action, resource in Countersign::Resource::\"vault\");";
    let entities = r#"[{"uid": {"type": "Countersign::Resource", "id": "db"}, "attrs": {"type": "secret"},
        "parents": [{"type": "Countersign::Resource", "id": "vault"}]}]"#;
    let bundle = bundle_of(
        "agent",
        &[("rules/main.dw", rules), ("entities.json", entities)],
    );
    let compiled = Compiled::compile(&bundle).unwrap();
    let mut request = pay(1);
    request.resource.kind = Some("public".to_owned());
    let decide = |request: &Request| {
        compiled
            .decide(&Starts::new(), &Partition::default(), request)
            .unwrap()
            .decision
    };
    assert_eq!(decide(&request).verdict, Verdict::Allow);
    request.resource.id = "db".to_owned();
    assert_eq!(ids(&decide(&request)), ["sealed"]);
    request.resource.id = "vault".to_owned();
    assert_eq!(ids(&decide(&request)), ["sealed"]);
    // A cycle through the bundle's own entities is refused, not followed.
    request.resource.parents = BTreeSet::from(["db".to_owned()]);
    assert_eq!(decide(&request).verdict, Verdict::Deny);
}

#[test]
fn a_fact_that_nobody_vouches_for_does_not_exist() {
    let rules = format!("{PERMIT_ALL}@id(\"prod\") forbid (principal, action == Countersign::Action::\"deploy\", resource)
        when {{ resource.type == \"production\" }};");
    let decision = decide(&rules, &request("deploy", "{\"ticket\": \"T\"}", START_US));
    assert_eq!(
        (decision.reason, ids(&decision)),
        (Reason::EvaluationError, vec!["prod"])
    );
    assert_eq!(decide(&rules, &pay(1)).verdict, Verdict::Allow);
}

#[test]
fn hostile_strings_are_only_strings() {
    let rules = "@id(\"open\") permit (principal == Countersign::Agent::\"mallory\", action, resource);
        @id(\"cap\") permit (principal, action == Countersign::Action::\"login\", resource) when temporal {
          formerly within 1h Countersign::Action::\"login\"::allowed{ input.user: context.input.user } };
        @id(\"first\") permit (principal, action == Countersign::Action::\"login\", resource)
          when { context.input.user like \"*ok\" };";
    for hostile in [
        "mallory\"",
        "\" || true",
        "\u{202e}yrollam",
        "\u{0}",
        "a\u{301}",
        "\u{e1}",
        "\\u{41}",
        "${jndi}",
        "\n",
        "::\"",
        "Countersign::Agent::\"mallory\"",
        "\u{1f980}",
        "' OR 1=1 --",
        "\u{feff}",
        "\\",
        "\"; permit (principal, action, resource);",
    ] {
        let mut world = World::new(rules);
        let mut ask = |user: &str, after_us: u64| {
            let input = serde_json::json!({ "user": user }).to_string();
            let mut request = request("login", &input, START_US + after_us);
            request.agent.id = hostile.to_owned();
            request.agent.owner = hostile.to_owned();
            request.agent.groups = BTreeSet::from([hostile.to_owned()]);
            request.agent.attributes = BTreeMap::from([(hostile.to_owned(), hostile.to_owned())]);
            request.resource.id = hostile.to_owned();
            request.session.purpose = Some(hostile.to_owned());
            request.session.issuer = Issuer::Operator(hostile.to_owned());
            request.claims =
                StringSets::from([(hostile.to_owned(), BTreeSet::from([hostile.to_owned()]))]);
            world.decide(&request).decision
        };
        assert_eq!(
            ask(hostile, 0).reason,
            Reason::NoMatchingPermit,
            "{hostile:?}"
        );
        let first = format!("{hostile}ok");
        assert_eq!(ids(&ask(&first, SECOND_US)), ["first"], "{hostile:?}");
        assert_eq!(
            ids(&ask(&first, 2 * SECOND_US)),
            ["cap", "first"],
            "{hostile:?}"
        );
        assert_eq!(
            ask(hostile, 3 * SECOND_US).verdict,
            Verdict::Deny,
            "{hostile:?}"
        );
    }
}
