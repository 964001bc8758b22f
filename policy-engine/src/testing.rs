//! Running the test cases that a bundle carries.
//!
//! A case is a small history: its requests are decided by the rules, one after the other, and what is observed is stepped, as
//! the machine would. Each case starts with an empty past, which every rule sees from its beginning.

use std::collections::BTreeSet;
use std::fmt;

use crate::bundle::{Bundle, Case, Expectation, Step, StepKind};
use crate::compile::Compiled;
use crate::decision::{Decision, RuleId};
use crate::evaluate::explain::Explanation;
use crate::rehearsal::Rehearsal;
use crate::request::Request;

/// A step of a test case whose decision was not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFailure {
    /// The file that holds the case.
    pub file: String,
    /// The name of the case.
    pub case: String,
    /// The number of the step, from 0, as `of` counts them.
    pub step: usize,
    /// The action that it asks for.
    pub action: String,
    /// What the case expects.
    pub expected: Expectation,
    /// What the rules said.
    pub actual: Decision,
}

/// The step, and what it was decided: `-` before what the case expects, `+` before what came out instead, nothing before what
/// they agree on or the case leaves open.
impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            case,
            step,
            action,
            expected,
            actual,
        } = self;
        write!(f, "{file}: case \"{case}\", step {step}, {action}")?;
        let verdict = actual.verdict.as_str();
        differ(f, "verdict", Some(expected.verdict.as_str()), verdict)?;
        let reason = expected.reason.map(crate::Reason::as_str);
        differ(f, "reason ", reason, actual.reason.as_str())?;
        let found: BTreeSet<&RuleId> = actual.rules.iter().collect();
        let wanted: BTreeSet<&RuleId> = match &expected.rules {
            Some(rules) => rules.iter().collect(),
            None => found.clone(),
        };
        if found.is_empty() && wanted.is_empty() {
            return write!(f, "\n    rule    none");
        }
        for rule in wanted.union(&found) {
            let sign = match (wanted.contains(rule), found.contains(rule)) {
                (true, false) => '-',
                (false, true) => '+',
                (true, true) | (false, false) => ' ',
            };
            write!(f, "\n  {sign} rule    {rule}")?;
        }
        Ok(())
    }
}

fn differ(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    expected: Option<&str>,
    actual: &str,
) -> fmt::Result {
    match expected {
        Some(expected) if expected != actual => {
            write!(f, "\n  - {name} {expected}\n  + {name} {actual}")
        }
        _ => write!(f, "\n    {name} {actual}"),
    }
}

/// Runs all cases of a bundle; no failures means that every decision was the expected one.
pub fn run_cases(compiled: &Compiled, bundle: &Bundle) -> Vec<CaseFailure> {
    let cases = bundle.cases().iter();
    cases.flat_map(|case| run(compiled, case)).collect()
}

fn run(compiled: &Compiled, case: &Case) -> Vec<CaseFailure> {
    let mut rehearsal = Rehearsal::new(compiled);
    let mut failures = Vec::new();
    for (index, step) in case.steps.iter().enumerate() {
        let actual = play(&mut rehearsal, case, step);
        let StepKind::Request { request, expect } = &step.kind else {
            continue;
        };
        if let Some((expect, actual)) = expect.as_ref().zip(actual)
            && !fits(expect, &actual)
        {
            failures.push(CaseFailure {
                file: case.file.clone(),
                case: case.name.clone(),
                step: index,
                action: request.action.clone(),
                expected: expect.clone(),
                actual,
            });
        }
    }
    failures
}

/// Explains the decision of a step, after the steps before it; none if nothing is requested there.
pub fn explain_step(compiled: &Compiled, case: &Case, step: usize) -> Option<Explanation> {
    let asked = asked(case.steps.get(step)?)?;
    let mut rehearsal = Rehearsal::new(compiled);
    for before in case.steps.iter().take(step) {
        play(&mut rehearsal, case, before);
    }
    Some(rehearsal.explain(asked))
}

/// The request of a step, at the time of the step.
fn asked(step: &Step) -> Option<Request> {
    let StepKind::Request { request, .. } = &step.kind else {
        return None;
    };
    Some(Request {
        time_us: step.time_us,
        ..Request::clone(request)
    })
}

/// Lets a step happen; a request is decided.
fn play(rehearsal: &mut Rehearsal<'_>, case: &Case, step: &Step) -> Option<Decision> {
    match &step.kind {
        StepKind::Request { .. } => return asked(step).map(|request| rehearsal.ask(request)),
        StepKind::Response {
            of,
            output,
            recorder,
        } => {
            let id = request_id(case, *of);
            rehearsal.outcome(id, step.time_us, true, recorder, output.as_deref());
        }
        StepKind::Error { of, recorder } => {
            let id = request_id(case, *of);
            rehearsal.outcome(id, step.time_us, false, recorder, None);
        }
    }
    None
}

/// The id of the request of a step.
fn request_id(case: &Case, of: usize) -> &str {
    match case.steps.get(of).map(|step| &step.kind) {
        Some(StepKind::Request { request, .. }) => &request.request_id,
        Some(StepKind::Response { .. } | StepKind::Error { .. }) | None => "",
    }
}

fn fits(expected: &Expectation, actual: &Decision) -> bool {
    let rules = |rules: &BTreeSet<RuleId>| rules.iter().eq(&actual.rules);
    expected.verdict == actual.verdict
        && expected.reason.is_none_or(|reason| reason == actual.reason)
        && expected.rules.as_ref().is_none_or(rules)
}

#[cfg(test)]
mod tests {
    use crate::fixtures::bundle_of;
    use crate::*;

    const RULES: &str = "@id(\"cap\") permit (principal, action == Countersign::Action::\"login\", resource)
          when temporal { count_within(1h, Countersign::Action::\"login\"::allowed{}) < 2 };
        @id(\"after\") permit (principal, action == Countersign::Action::\"read\", resource)
          when temporal { formerly within 1h Countersign::Action::\"login\"::response{ input.user: context.input.user } };";

    fn run(history: &str, steps: &str) -> Vec<String> {
        let tests = format!("{{\"cases\": [{{\"name\": \"case\", \"steps\": [{steps}]}}]}}");
        let files = [
            ("rules/main.dw", RULES),
            ("tests/main.json", tests.as_str()),
        ];
        let bundle = bundle_of(history, &files);
        let compiled = Compiled::compile(&bundle).unwrap();
        let failures = run_cases(&compiled, &bundle);
        failures.iter().map(ToString::to_string).collect()
    }

    fn login(at_s: u32, agent: &str, verdict: &str) -> String {
        format!(
            "{{\"at_s\": {at_s}, \"agent\": {{\"id\": \"{agent}\"}},
              \"request\": {{\"action\": \"login\", \"input\": {{\"user\": \"u\"}}}}, \"expect\": {{\"verdict\": \"{verdict}\"}}}}"
        )
    }

    fn read(at_s: u32, expect: &str) -> String {
        format!(
            "{{\"at_s\": {at_s}, \"request\": {{\"action\": \"read\", \"input\": {{\"user\": \"u\"}}}}, \"expect\": {{{expect}}}}}"
        )
    }

    #[test]
    fn cases_that_hold_say_nothing() {
        let steps = [
            login(0, "agent", "ALLOW"),
            login(0, "agent", "ALLOW"),
            login(0, "agent", "DENY"),
            read(
                1,
                "\"verdict\": \"DENY\", \"reason\": \"NO_MATCHING_PERMIT\", \"rules\": []",
            ),
            "{\"at_s\": 2, \"of\": 2, \"response\": null}".to_owned(),
            read(3, "\"verdict\": \"DENY\""),
            "{\"at_s\": 4, \"of\": 1, \"response\": null}".to_owned(),
            read(5, "\"verdict\": \"ALLOW\", \"rules\": [\"after\"]"),
            login(3600, "agent", "DENY"),
            login(3601, "agent", "ALLOW"),
        ];
        assert_eq!(run("agent", &steps.join(",")), Vec::<String>::new());
    }

    #[test]
    fn the_scope_says_whose_past_counts() {
        let steps = |third: &str| {
            [
                login(0, "a", "ALLOW"),
                login(1, "b", "ALLOW"),
                login(2, "c", third),
            ]
            .join(",")
        };
        // Without a subject, each agent has a past of its own under the subject scope.
        for own in ["agent", "subject"] {
            assert_eq!(run(own, &steps("ALLOW")), Vec::<String>::new(), "{own}");
        }
        for shared in ["session", "owner", "namespace"] {
            assert_eq!(
                run(shared, &steps("DENY")),
                Vec::<String>::new(),
                "{shared}"
            );
        }
    }

    #[test]
    fn a_difference_is_told_line_by_line() {
        let failures = run(
            "agent",
            &read(
                0,
                "\"verdict\": \"ALLOW\", \"reason\": \"ALLOWED_BY_POLICY\", \"rules\": [\"after\", \"x\"]",
            ),
        );
        assert_eq!(
            failures,
            [
                "tests/main.json: case \"case\", step 0, read\n  - verdict ALLOW\n  + verdict DENY\n  \
              - reason  ALLOWED_BY_POLICY\n  + reason  NO_MATCHING_PERMIT\n  - rule    after\n  - rule    x"
            ]
        );
    }
}
