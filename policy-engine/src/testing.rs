//! Running the test cases that a bundle carries.
//!
//! A case is a small history: its requests are decided by the rules, one after the other, and what is observed is stepped, as
//! the machine would. Each case starts with an empty past, which every rule sees from its beginning.

use std::collections::BTreeMap;
use std::fmt;

use crate::bundle::{Bundle, Case, Expectation, HistoryScope, Step, StepKind};
use crate::compile::Compiled;
use crate::decision::{Decision, RuleId, Verdict};
use crate::evaluate::Outcome;
use crate::history::{Partition, Starts, step};
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
    /// What the case expects.
    pub expected: Expectation,
    /// What the rules said.
    pub actual: Decision,
}

/// The step, and a line for each thing that differs.
impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            case,
            step,
            expected,
            actual,
        } = self;
        write!(f, "{file}: case \"{case}\", step {step}")?;
        if expected.verdict != actual.verdict {
            let (expected, actual) = (expected.verdict.as_str(), actual.verdict.as_str());
            write!(f, "\n  verdict: expected {expected}, got {actual}")?;
        }
        let reason = actual.reason.as_str();
        match expected.reason {
            Some(expected) if expected != actual.reason => {
                write!(
                    f,
                    "\n  reason: expected {}, got {reason}",
                    expected.as_str()
                )?;
            }
            _ => write!(f, "\n  reason: {reason}")?,
        }
        let rules: Vec<&RuleId> = actual.rules.iter().collect();
        match &expected.rules {
            Some(expected) if !expected.iter().eq(rules.iter().copied()) => {
                let expected: Vec<&RuleId> = expected.iter().collect();
                write!(
                    f,
                    "\n  rules: expected {}, got {}",
                    list(&expected),
                    list(&rules)
                )
            }
            _ => write!(f, "\n  rules: {}", list(&rules)),
        }
    }
}

fn list(rules: &[&RuleId]) -> String {
    match rules {
        [] => "none".to_owned(),
        _ => rules
            .iter()
            .map(|rule| rule.0.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Runs all cases of a bundle; no failures means that every decision was the expected one.
pub fn run_cases(compiled: &Compiled, bundle: &Bundle) -> Vec<CaseFailure> {
    let cases = bundle.cases().iter();
    cases.flat_map(|case| run(compiled, case)).collect()
}

fn run(compiled: &Compiled, case: &Case) -> Vec<CaseFailure> {
    let rules = compiled.temporal_rules().iter();
    let starts: Starts = rules.map(|rule| (rule.fingerprint, 0)).collect();
    let mut partitions: BTreeMap<(u8, String), Partition> = BTreeMap::new();
    let mut allowed: BTreeMap<usize, Request> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut now_us = 0;
    for (index, Step { time_us, kind }) in case.steps.iter().enumerate() {
        // As in the ledger, no two things happen at once.
        now_us = (*time_us).max(now_us + 1);
        let events = match kind {
            StepKind::Request { request, expect } => {
                let mut request = Request::clone(request);
                request.time_us = now_us;
                let partition = partitions.entry(key(compiled, &request)).or_default();
                // Records that nothing but stepping wrote can be read.
                let Ok(evaluated) = compiled.decide(&starts, partition, &request) else {
                    continue;
                };
                let actual = evaluated.decision;
                let events = evaluated
                    .events
                    .into_iter()
                    .map(|event| (request.clone(), event));
                let events: Vec<_> = events.collect();
                if actual.verdict == Verdict::Allow {
                    allowed.insert(index, request);
                }
                if !fits(expect, &actual) {
                    failures.push(CaseFailure {
                        file: case.file.clone(),
                        case: case.name.clone(),
                        step: index,
                        expected: expect.clone(),
                        actual,
                    });
                }
                events
            }
            StepKind::Response { of, output } => {
                outcome(compiled, &mut allowed, *of, now_us, true, output.as_deref())
            }
            StepKind::Error { of } => outcome(compiled, &mut allowed, *of, now_us, false, None),
        };
        for (request, event) in events {
            let key = key(compiled, &request);
            let partition = partitions.entry(key.clone()).or_default();
            if step(partition, &[compiled], &[event]).is_err() {
                partitions.remove(&key);
            }
        }
    }
    failures
}

/// The event of an outcome. Only the first one counts, and only of what was allowed.
fn outcome(
    compiled: &Compiled,
    allowed: &mut BTreeMap<usize, Request>,
    of: usize,
    time_us: u64,
    succeeded: bool,
    output: Option<&[u8]>,
) -> Vec<(Request, crate::history::Event)> {
    let Some(request) = allowed.remove(&of) else {
        return Vec::new();
    };
    let event = compiled.outcome_event(&Outcome {
        time_us,
        succeeded,
        request_id: &request.request_id,
        session_id: &request.session.id,
        agent: &request.agent.id,
        action: &request.action,
        resource: &request.resource.id,
        input: &request.input,
        output,
    });
    event.map(|event| (request, event)).into_iter().collect()
}

fn fits(expected: &Expectation, actual: &Decision) -> bool {
    let rules = |rules: &std::collections::BTreeSet<RuleId>| rules.iter().eq(&actual.rules);
    expected.verdict == actual.verdict
        && expected.reason.is_none_or(|reason| reason == actual.reason)
        && expected.rules.as_ref().is_none_or(rules)
}

/// Whose past a request reads, as the machine finds it. A request on nobody's behalf reads its agent's, so that opening
/// another session is no way around a cap.
fn key(compiled: &Compiled, request: &Request) -> (u8, String) {
    match compiled.history_scope() {
        HistoryScope::Agent => (0, request.agent.id.clone()),
        HistoryScope::Session => (0, request.session.id.clone()),
        HistoryScope::Subject => match &request.session.subject {
            Some(subject) => (1, format!("{}\0{}", subject.iss, subject.sub)),
            None => (0, request.agent.id.clone()),
        },
        HistoryScope::Owner => (0, request.agent.owner.clone()),
        HistoryScope::Namespace => (0, String::new()),
    }
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
                "tests/main.json: case \"case\", step 0\n  verdict: expected ALLOW, got DENY\n  \
              reason: expected ALLOWED_BY_POLICY, got NO_MATCHING_PERMIT\n  rules: expected after, x, got none"
            ]
        );
    }
}
