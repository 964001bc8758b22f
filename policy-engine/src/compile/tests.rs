//! What is refused at publish, and how it is told.

use crate::fixtures::{START_US, bundle, bundle_of, compiled, ids, refused, request, starts_at};
use crate::*;

const LOGIN: &str = "Countersign::Action::\"login\"";

fn only(rules: &str) -> Diagnostic {
    let mut findings = refused(rules);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}

#[test]
fn every_rule_has_an_id_of_its_own() {
    let finding = only("\n\npermit (principal, action, resource);");
    assert_eq!(
        finding.to_string(),
        "rules/main.dw:3: error: the rule has no @id; begin it with @id(\"…\"), or let `policy check --fix` add ids"
    );
    let finding = only(
        "@id(\"a\") permit (principal, action, resource);\n@id(\"b\") permit (principal, action, resource);\n\
         @id(\"a\")\nforbid (principal, action, resource);",
    );
    assert_eq!(
        finding.to_string(),
        "rules/main.dw:3: error in rule `a`: its @id is also that of the rule at rules/main.dw:1; \
         give one of them another @id"
    );
    for id in ["", "a\\nb", &"i".repeat(129), &"é".repeat(65)] {
        refused(&format!(
            "@id(\"{id}\") permit (principal, action, resource);"
        ));
    }
    compiled(&format!(
        "@id(\"{}\") permit (principal, action, resource);",
        "é".repeat(64)
    ));
    // Across files too.
    let rule = "@id(\"a\") permit (principal, action, resource);";
    let twice = bundle_of(
        "agent",
        &[
            ("rules/a.dw", rule),
            ("rules/b.cedar", &format!("// other\n{rule}")),
        ],
    );
    let finding = &Compiled::compile(&twice).unwrap_err()[0];
    assert_eq!(
        (finding.file.as_str(), finding.line),
        ("rules/b.cedar", Some(2))
    );
}

#[test]
fn annotations_mean_what_they_say_or_are_refused() {
    let with = |annotation: &str, effect: &str| {
        format!("@id(\"a\") @{annotation} {effect} (principal, action, resource);")
    };
    for annotation in [
        "permit_ttl(\"0\")",
        "permit_ttl(\"901\")",
        "permit_ttl(\"+1\")",
        "permit_ttl(\"01\")",
        "permit_ttl(\" 1\")",
        "permit_ttl(\"1.0\")",
        "permit_ttl(\"\")",
        "permit_ttl",
        "approvers(\"\")",
        "approvers(\"a,\")",
        "approvers(\"a:0\")",
        "approvers(\"a:x\")",
        "approvers(\"a,a:2\")",
        "approvers(\"a:101\")",
        "approvers(\"a:+2\")",
        "approvers(\"a:02\")",
        "approvers(\"a:1:2\")",
        "approvers",
        "aprovers(\"a:2\")",
        "Approvers(\"a:2\")",
        "note(\"\")",
        "approvers(\":1\")",
        "obligation(\"\")",
        "obligation(\":v\")",
        "advice(\":\")",
        "single_use(\"no\")",
    ] {
        let finding = only(&with(annotation, "permit"));
        assert_eq!(finding.rule.as_deref(), Some("a"), "{annotation}");
    }
    for annotation in [
        "permit_ttl(\"900\")",
        "permit_ttl(\"1\")",
        "approvers(\"a:100, b\")",
        "obligation(\"t\")",
        "advice(\"t:\")",
        "single_use",
    ] {
        compiled(&with(annotation, "permit"));
    }
    for annotation in ["permit_ttl(\"60\")", "approvers(\"a\")", "single_use"] {
        only(&with(annotation, "forbid"));
    }
    compiled(&with("obligation(\"tell:owner\")", "forbid"));
}

#[test]
fn who_said_a_fact_cannot_be_left_out_of_a_comparison() {
    let has = "context.session.issuer has operator && context.session.issuer.operator";
    for condition in [
        "context.session.issuer == \"ada\"".to_owned(),
        "context.session.issuer == Countersign::Operator::\"ada\"".to_owned(),
        "context.session.issuer.operator == Countersign::Operator::\"ada\"".to_owned(),
        "context.session.issuer.id == \"ada\"".to_owned(),
        format!("{has} == \"ada\""),
        "context.session.purpose == \"payout\"".to_owned(),
        "context.session.subject.sub == \"carol\"".to_owned(),
    ] {
        for effect in ["permit", "forbid"] {
            let scope = format!("(principal, action == {LOGIN}, resource)");
            only(&format!(
                "@id(\"a\") {effect} {scope} when {{ {condition} }};"
            ));
        }
    }
    let of_type = |kind: &str| {
        let when = format!("{has} == Countersign::{kind}::\"ada\"");
        compiled(&format!(
            "@id(\"a\") permit (principal, action == {LOGIN}, resource) when {{ {when} }};"
        ))
    };
    assert_eq!(of_type("Operator").warnings(), []);
    // No operator is an agent: Cedar takes the rule for one that never matches, and says so.
    let said = of_type("Agent").warnings().to_vec();
    assert!(
        said.iter().any(|said| said.message.contains("impossible")),
        "{said:?}"
    );
}

#[test]
fn findings_name_the_file_the_line_and_the_rule() {
    let finding = only("@id(\"fine\") permit (principal, action, resource);\n@id(\"a\")\npermit (principal, action,\n  resource) when { context.nope };".replace(", action,", ", action == Countersign::Action::\"login\",").as_str());
    assert_eq!(
        (finding.file.as_str(), finding.line, finding.rule.as_deref()),
        ("rules/main.dw", Some(4), Some("a"))
    );
    assert!(!finding.message.contains("rules0"), "{finding}");
    let finding = only("@id(\"a\") permit (principal, action, resource)\nwhen { context. };");
    assert_eq!(
        (finding.file.as_str(), finding.line),
        ("rules/main.dw", Some(2))
    );
    let finding = only(&format!(
        "@id(\"a\") permit (principal, action == {LOGIN}, resource)\nwhen temporal {{\n  formerly within 1h {LOGIN}::allowed{{ input.nope: 1 }} }};"
    ));
    assert_eq!(
        (finding.line.is_some(), finding.rule.as_deref()),
        (true, Some("a"))
    );
}

#[test]
fn what_replicas_could_not_repeat_or_bound_is_refused() {
    let when = |condition: &str| {
        format!("@id(\"a\") permit (principal, action == {LOGIN}, resource) when {condition};")
    };
    for rules in [
        // A provider, a template, an unknown action, kind or entity type.
        when("guardrails { Weather::Now(context.input.user) == 1 }"),
        "@id(\"a\") permit (principal == ?principal, action, resource);".to_owned(),
        "@id(\"a\") permit (principal, action == Countersign::Action::\"nope\", resource);"
            .to_owned(),
        "@id(\"a\") permit (principal is Nobody, action, resource);".to_owned(),
        when(&format!(
            "temporal {{ formerly within 1h {LOGIN}::asked{{}} }}"
        )),
        // A window too long, alone or with those inside it.
        when(&format!(
            "temporal {{ formerly within 31d {LOGIN}::allowed{{}} }}"
        )),
        when(&format!(
            "temporal {{ formerly within 9223372036854775807d {LOGIN}::allowed{{}} }}"
        )),
        when(&format!(
            "temporal {{ formerly within 30d ({LOGIN}::allowed{{}} && formerly within 1s {LOGIN}::denied{{}}) }}"
        )),
        // Without a window.
        when(&format!("temporal {{ formerly {LOGIN}::allowed{{}} }}")),
        // Wrong types.
        when("{ context.input.user > 1 }"),
        when("{ context.input.user }"),
    ] {
        let findings = refused(&rules);
        assert!(
            !findings.is_empty()
                && findings
                    .iter()
                    .all(|finding| finding.severity == Severity::Error),
            "{rules}"
        );
    }
    let rules = when(&format!(
        "temporal {{ formerly within 29d ({LOGIN}::allowed{{}} && formerly within 1d {LOGIN}::denied{{}}) }}"
    ));
    assert_eq!(
        compiled(&rules).temporal_rules()[0].window_us,
        30 * 86_400 * 1_000_000
    );
}

#[test]
fn text_that_would_overflow_a_stack_is_refused() {
    let when = |condition: String| {
        format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")
    };
    let temporal = |condition: String| {
        format!(
            "@id(\"a\") permit (principal, action == {LOGIN}, resource) when temporal {{ {condition} }};"
        )
    };
    for rules in [
        when(format!("{}true{}", "(".repeat(1_000), ")".repeat(1_000))),
        when(format!("{}true", "!".repeat(5_000))),
        when(format!("true{}", " && true".repeat(5_000))),
        when(format!("{}1 == 1", "-".repeat(5_000))),
        when(format!(
            "{}true{}",
            "if true then ".repeat(5_000),
            " else true".repeat(5_000)
        )),
        when(format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))),
        when(format!("context{}", ".a".repeat(5_000))),
        temporal(format!(
            "{}{LOGIN}::allowed{{}}{}",
            "(".repeat(5_000),
            ")".repeat(5_000)
        )),
        temporal(format!(
            "{LOGIN}::allowed{{}}{}",
            format!(" && {LOGIN}::allowed{{}}").repeat(5_000)
        )),
        temporal(format!(
            "{}{LOGIN}::allowed{{}}",
            "formerly within 1s ".repeat(5_000)
        )),
        format!(
            "@id(\"a\") permit (principal, action, resource) {};",
            "when { true } ".repeat(100_000)
        ),
    ] {
        // Whatever is found, the process is still there to find it.
        let _ = Compiled::compile(&bundle(&rules));
    }
    let too_deep = [
        when(format!("{}true{}", "(".repeat(1_000), ")".repeat(1_000))),
        when(format!("{}true", "!".repeat(5_000))),
        when(format!("true{}", " && true".repeat(5_000))),
    ];
    for rules in too_deep {
        let finding = only(&rules);
        assert_eq!(
            (finding.file.as_str(), finding.line),
            ("rules/main.dw", Some(1))
        );
    }
}

#[test]
fn a_rule_too_deep_to_evaluate_on_any_stack_is_refused() {
    let allowed = format!("{LOGIN}::allowed{{}}");
    let conditions = [
        format!("when {{ {} == 210 }}", vec!["1"; 210].join(" + ")),
        format!("when {{ {}true }}", "if true then true else ".repeat(210)),
        format!(
            "when temporal {{ {} }}",
            vec![allowed.as_str(); 210].join(" && ")
        ),
        format!(
            "when temporal {{ bind(n, count_within(1h, {allowed}), {} < 300) }}",
            vec!["n"; 210].join(" + ")
        ),
    ];
    for condition in conditions {
        let rule =
            format!("@id(\"a\") permit (principal, action == {LOGIN}, resource) {condition};");
        let finding = only(&rule);
        assert_eq!(finding.rule.as_deref(), Some("a"));
        assert!(finding.message.contains("deeper than 200"), "{finding}");
    }
}

/// Rules near every limit on text; those that permit do so for user `u`.
fn deepest_rules() -> String {
    let deep = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let is_u = "context.input.user == \"u\"";
    let conditions = [
        ("and", format!("{}{is_u}", "true && ".repeat(190))),
        ("or", format!("{}{is_u}", "false || ".repeat(190))),
        ("and-right", deep("(true && ", is_u, ")", 30)),
        ("parentheses", deep("(", is_u, ")", 31)),
        ("if", deep("if true then (", is_u, ") else false", 31)),
        (
            "if-chain",
            format!("{}{is_u}", "if false then true else ".repeat(190)),
        ),
        ("sum", format!("{} == 190", vec!["1"; 190].join(" + "))),
        (
            "sets",
            format!("{} != {}", deep("[", "1", "]", 31), deep("[", "2", "]", 31)),
        ),
        ("records", format!("{0} == {0}", deep("{a: ", "1", "}", 31))),
    ];
    let permits = conditions.map(|(id, condition)| {
        format!(
            "@id(\"{id}\") permit (principal, action == {LOGIN}, resource) when {{ {condition} }};\n"
        )
    });
    let allowed = format!("{LOGIN}::allowed{{ input.user: context.input.user }}");
    let temporal = [
        deep("(formerly within 1s (", &allowed, "))", 15),
        vec![format!("formerly within 1s {allowed}"); 160].join(" && "),
    ];
    let forbids = temporal.iter().enumerate().map(|(number, condition)| {
        format!(
            "@id(\"forbid-{number}\") forbid (principal, action == {LOGIN}, resource) when temporal {{ {condition} }};\n"
        )
    });
    permits.into_iter().chain(forbids).collect()
}

#[test]
fn the_deepest_rules_within_the_limits_compile_and_evaluate_on_a_small_stack() {
    let on_small_stack = || {
        let compiled = compiled(&deepest_rules());
        let request = request("login", "{\"user\": \"u\"}", START_US);
        compiled
            .decide(
                &starts_at(&compiled, START_US),
                &Partition::default(),
                &request,
            )
            .unwrap()
            .decision
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the size of the stack is what is tested"
    )]
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(on_small_stack)
        .unwrap();
    let decision = thread.join().unwrap();
    let expected = [
        "and",
        "and-right",
        "if",
        "if-chain",
        "or",
        "parentheses",
        "records",
        "sets",
        "sum",
    ];
    assert_eq!(
        (decision.verdict, ids(&decision)),
        (Verdict::Allow, expected.to_vec())
    );
}

#[test]
fn a_rule_can_be_shown_as_its_author_wrote_it() {
    let rules = "// first\n@id(\"one\") permit (principal, action, resource); // after\n\n\
        def cedar ok(?x) { ?x == \"u\" };\n@id(\"two\")\n@advice(\"x\")\nforbid (principal, action, resource)\n  \
        when { false }; // end";
    let compiled = compiled(rules);
    let two = compiled.rule_source(&RuleId("two".to_owned())).unwrap();
    assert_eq!((two.path.as_str(), two.line), ("rules/main.dw", 5));
    assert_eq!(
        two.text,
        "@id(\"two\")\n@advice(\"x\")\nforbid (principal, action, resource)\n  when { false };"
    );
    assert_eq!(compiled.rule_source(&RuleId("three".to_owned())), None);
}

#[test]
fn a_bundle_without_rules_is_a_bundle_and_its_digest_is_kept() {
    let bundle = bundle_of("owner", &[]);
    let compiled = Compiled::compile(&bundle).unwrap();
    assert_eq!(
        (compiled.digest(), compiled.history_scope()),
        (bundle.digest(), HistoryScope::Owner)
    );
    assert!(compiled.temporal_rules().is_empty() && compiled.warnings().is_empty());
}

/// The messages of all warnings about a rule.
fn warned(rule: &str) -> String {
    let found = check(&bundle(rule))
        .into_iter()
        .filter(|finding| finding.rule.is_some());
    let found = found.map(|finding| {
        assert_eq!(finding.severity, Severity::Warning, "{finding}");
        finding.message
    });
    found.collect()
}

#[test]
fn a_permit_that_rests_on_the_agents_own_word_is_warned_of() {
    let permit = |scope: &str, when: &str| {
        warned(&format!("@id(\"a\") permit ({scope}) when {{ {when} }};"))
    };
    let claims = "context.request.claims.hasTag(\"admin\")";
    let anybody = "principal, action, resource";
    let with_input = format!("{claims} && context.input.user == \"u\"");
    let login = format!("principal, action == {LOGIN}, resource");
    let granted = format!("{claims} && context.session.grants.hasTag(\"admin\")");
    let admins = "principal in Countersign::Group::\"admins\", action, resource";
    let own = "own word: context.request.claims";
    assert!(permit(anybody, claims).contains(own));
    assert!(permit(&login, &with_input).contains(own));
    assert!(permit(admins, claims).contains(own));
    assert_eq!(permit(anybody, &granted), "");
    assert_eq!(
        permit(anybody, "context.request.assurance == \"BOTH_SIGNED\""),
        ""
    );
}

#[test]
fn a_rule_that_reads_the_wrong_events_is_warned_of() {
    let temporal = |effect: &str, condition: String| {
        warned(&format!(
            "@id(\"a\") {effect} (principal, action == {LOGIN}, resource) when temporal {{ {condition} }};"
        ))
    };
    let asked = || format!("formerly within 1h {LOGIN}::request{{}}");
    assert!(temporal("permit", asked()).contains("::request"));
    assert_eq!(temporal("forbid", asked()), "");
    let capped = |kind: &str| format!("count_within(1h, {LOGIN}::{kind}{{}}) < 5");
    assert!(temporal("permit", capped("response")).contains("events of outcomes"));
    assert_eq!(temporal("permit", capped("allowed")), "");
    let last = format!("previous within 1h {LOGIN}::allowed{{}}");
    assert!(temporal("permit", last).contains("any kind"));
}
