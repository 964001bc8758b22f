//! A bundle's own test cases: what the format takes, and what it refuses.

use super::*;
use crate::limits::{MAX_CASE_FACTS_BYTES, MAX_JSON_DEPTH};
use crate::request::{Assurance, Issuer};

fn cases(text: &str) -> Vec<Case> {
    let file = SourceFile {
        path: "tests/a.json".to_owned(),
        text: text.to_owned(),
    };
    let mut cases = Vec::new();
    read(&file, &mut cases).unwrap_or_else(|finding| panic!("{finding}"));
    cases
}

fn refusal(text: &str) -> String {
    let file = SourceFile {
        path: "tests/a.json".to_owned(),
        text: text.to_owned(),
    };
    let finding = read(&file, &mut Vec::new()).unwrap_err();
    assert_eq!(finding.file, "tests/a.json");
    finding.message
}

fn request(step: &Step) -> (&Request, &Expectation) {
    match &step.kind {
        StepKind::Request { request, expect } => {
            (request, expect.as_ref().expect("cases of a bundle expect"))
        }
        StepKind::Response { .. } | StepKind::Error { .. } => panic!("{step:?}"),
    }
}

/// The example of the module's documentation.
fn documented() -> String {
    let source = include_str!("../cases.rs");
    let lines = source.lines().map(|line| line.trim_start_matches("//!"));
    lines
        .skip_while(|line| line.trim() != "```json")
        .skip(1)
        .take_while(|line| line.trim() != "```")
        .collect()
}

#[test]
fn the_documented_example_is_read() {
    let cases = cases(&documented());
    assert_eq!(cases.len(), 1);
    let case = &cases[0];
    assert_eq!((case.file.as_str(), case.steps.len()), ("tests/a.json", 4));
    assert!(case.name.starts_with("the third refund"));
    let (first, expect) = request(&case.steps[0]);
    assert_eq!(first.time_us, 1_767_225_600_000_000);
    assert_eq!(first.agent.id, "billing-bot");
    assert_eq!(first.agent.attributes["team"], "payments");
    assert_eq!(
        first.session.grants["accounts"],
        BTreeSet::from(["A1".to_owned()])
    );
    assert_eq!(first.input, br#"{"amount":10.50}"#);
    assert_eq!(
        (first.resource.id.as_str(), first.session.seq),
        ("bank/refund", 1)
    );
    let rules = BTreeSet::from([RuleId("small-refunds".to_owned())]);
    let expected = Expectation {
        verdict: Verdict::Allow,
        reason: Some(Reason::AllowedByPolicy),
        rules: Some(rules),
    };
    assert_eq!(expect, &expected);
    let output = Some(br#"{"ok":true}"#.to_vec());
    let recorder = Recorder::Gateway("gateway".to_owned());
    assert_eq!(
        case.steps[1].kind,
        StepKind::Response {
            of: 0,
            output,
            recorder: recorder.clone(),
        }
    );
    let (second, expect) = request(&case.steps[2]);
    assert_eq!((second.session.seq, second.request_id.len()), (2, 32));
    assert_ne!(second.request_id, first.request_id);
    assert_eq!(
        (expect.verdict, &expect.reason, &expect.rules),
        (Verdict::Escalate, &None, &None)
    );
    assert_eq!(case.steps[3].kind, StepKind::Error { of: 2, recorder });
    assert_eq!(case.steps[3].time_us, first.time_us + 61_000_000);
}

#[test]
fn every_field_of_a_request_can_be_set() {
    let cases = cases(
        r#"{"cases": [{"name": "n", "start_s": 10, "steps": [{"at_s": 5,
            "agent": {"id": "a", "owner": "o", "groups": ["g"]},
            "session": {"id": "s", "purpose": "p", "issuer": {"gateway": "i"}, "delegated": true,
                        "subject": {"iss": "x", "sub": "y", "assurance": "ISSUER_ASSERTED"}},
            "request": {"action": "t", "input": [1], "presenter": "gw", "assurance": "BOTH_SIGNED", "claims": {"c": ["d"]},
                        "resource": {"id": "r", "type": "k", "parents": ["p"], "attributes": {"a": "b"}},
                        "approval": {"groups": {"cfo": 2}}},
            "expect": {"verdict": "DENY", "reason": "SCHEMA_MISMATCH"}},
            {"at_s": 5, "response": null, "of": 0, "self_reported": true}]}]}"#,
    );
    let (request, _) = request(&cases[0].steps[0]);
    assert_eq!(
        (request.time_us, request.session.opened_at_us),
        (15_000_000, 10_000_000)
    );
    assert_eq!(
        (request.agent.id.as_str(), request.agent.groups.len()),
        ("a", 1)
    );
    assert_eq!(
        (request.session.id.as_str(), request.session.delegated),
        ("s", true)
    );
    assert_eq!(
        request.session.subject.as_ref().unwrap().assurance,
        "ISSUER_ASSERTED"
    );
    assert_eq!(
        (request.presenter.as_deref(), request.assurance),
        (Some("gw"), Assurance::BothSigned)
    );
    assert_eq!(
        (
            request.resource.kind.as_deref(),
            request.resource.parents.len()
        ),
        (Some("k"), 1)
    );
    assert_eq!(request.approval.as_ref().unwrap().count, 2);
    assert_eq!(request.claims["c"].len(), 1);
    assert_eq!(request.input, b"[1]");
    assert_eq!(request.session.issuer, Issuer::Gateway("i".to_owned()));
    assert_eq!(
        cases[0].steps[1].kind,
        StepKind::Response {
            of: 0,
            output: None,
            recorder: Recorder::Agent,
        }
    );
}

const GOOD: &str =
    r#"{"at_s": 9, "request": {"action": "a", "input": {}}, "expect": {"verdict": "DENY"}}"#;

fn with_steps(steps: &str) -> String {
    format!(r#"{{"cases": [{{"name": "n", "steps": [{steps}]}}]}}"#)
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let deep = MAX_JSON_DEPTH + 1;
    let deep = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
    for (text, part) in [
        ("[]", "at ``: it is not an object"),
        ("{}", "`cases` is missing"),
        (r#"{"cases": [], "more": 1}"#, "no member `more`"),
        (
            r#"{"cases": [{"steps": []}]}"#,
            "at `/cases/0`: `name` is missing",
        ),
        (
            r#"{"cases": [{"name": 1, "steps": []}]}"#,
            "`name` is not a string",
        ),
        (&deep, "deeper"),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
    }
    for (step, part) in [
        ("{}", "at `/cases/0/steps/0`: `at_s` is missing"),
        (r#"{"at_s": -1}"#, "whole seconds"),
        (r#"{"at_s": 0.5}"#, "whole seconds"),
        (r#"{"at_s": 0}"#, "not about a request"),
        (r#"{"at_s": 0, "response": {}}"#, "not about a request"),
    ] {
        let message = refusal(&with_steps(step));
        assert!(message.contains(part), "{step}: {message}");
    }
}

#[test]
fn what_is_wrong_with_a_request_or_its_outcome_is_named() {
    assert_eq!(cases(&with_steps(GOOD)).len(), 1);
    for (after, part) in [
        (
            r#"{"at_s": 9, "response": {}, "of": 1}"#,
            "not about a request",
        ),
        (r#"{"at_s": 9, "response": 1}"#, "neither"),
        (r#"{"at_s": 9, "error": false}"#, "no `request`"),
        (r#"{"at_s": 8, "error": true}"#, "earlier"),
        (
            r#"{"at_s": 9, "error": true, "agent": {}}"#,
            "no member `agent`",
        ),
    ] {
        let message = refusal(&with_steps(&format!("{GOOD}, {after}")));
        assert!(message.contains(part), "{after}: {message}");
    }
    for (from, to, part) in [
        (
            "\"action\"",
            "\"tool\"",
            "at `/cases/0/steps/0/request`: `action` is missing",
        ),
        ("DENY", "MAYBE", "at `/cases/0/steps/0/expect`"),
        (
            "\"DENY\"",
            "\"DENY\", \"reason\": \"BECAUSE\"",
            "no `reason`",
        ),
        (
            ", \"expect\": {\"verdict\": \"DENY\"}",
            "",
            "`expect` is missing",
        ),
        ("{}", "{}, \"assurance\": \"NONE\"", "`assurance`"),
        ("{}", "{}, \"claims\": {\"a\": \"b\"}", "arrays of strings"),
    ] {
        let message = refusal(&with_steps(&GOOD.replacen(from, to, 1)));
        assert!(message.contains(part), "{to}: {message}");
    }
}

#[test]
fn cases_and_steps_are_bounded() {
    let cases_text = |count: usize| {
        let cases = vec![r#"{"name": "n", "steps": []}"#; count];
        format!(r#"{{"cases": [{}]}}"#, cases.join(","))
    };
    assert_eq!(cases(&cases_text(MAX_CASES)).len(), MAX_CASES);
    assert!(refusal(&cases_text(MAX_CASES + 1)).contains("more than"));
    let steps_text = |count: usize| with_steps(&vec![GOOD; count].join(","));
    assert_eq!(cases(&steps_text(MAX_STEPS))[0].steps.len(), MAX_STEPS);
    assert!(refusal(&steps_text(MAX_STEPS + 1)).contains("more than"));

    // The bound is on all files together.
    let text = cases_text(MAX_CASES);
    let file = SourceFile {
        path: "tests/a.json".to_owned(),
        text,
    };
    let mut all = Vec::new();
    read(&file, &mut all).unwrap();
    assert!(read(&file, &mut all).is_err());

    let facts = |length: usize| {
        let id = "x".repeat(length - r#"{"id":""}"#.len());
        format!(r#"{{"cases": [{{"name": "n", "agent": {{"id": "{id}"}}, "steps": []}}]}}"#)
    };
    assert_eq!(cases(&facts(MAX_CASE_FACTS_BYTES)).len(), 1);
    assert!(refusal(&facts(MAX_CASE_FACTS_BYTES + 1)).contains("longer than"));
}

#[test]
fn times_end_with_the_year_9999() {
    let text = r#"{"cases": [{"name": "n", "start_s": 9223372036854775807, "steps": [
        {"at_s": 9223372036854775807, "request": {"action": "a", "input": {}}, "expect": {"verdict": "DENY"}}]}]}"#;
    assert_eq!(cases(text)[0].steps[0].time_us, 253_402_300_799_000_000);
}
