//! P7, order is law: the ledger's order is that of real time, and what was suspended, halted or used up governs every decision
//! after it.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body};

use super::Case;
use crate::cluster::history::Ledger;

/// Payments that the rules of test bundles allow each agent in an hour.
const PAYMENTS: u64 = 3;

/// Orders and decisions that cannot be.
#[must_use]
pub fn judge(case: &Case) -> Vec<String> {
    let mut findings = real_time(case);
    for ledger in &case.ledgers {
        findings.extend(entry_times(ledger));
        findings.extend(law(ledger));
    }
    findings
}

/// Answered before asked means a smaller index.
fn real_time(case: &Case) -> Vec<String> {
    let mut findings = Vec::new();
    let mut by_start: Vec<_> = case.history.answered().collect();
    by_start.sort_by_key(|(call, _)| call.start);
    let mut by_end = by_start.clone();
    by_end.sort_by_key(|(call, _)| call.end);
    let mut ended = by_end.into_iter().peekable();
    let mut largest = None;
    for (call, answer) in by_start {
        while let Some((_, before)) = ended.next_if(|(before, _)| before.end < call.start) {
            largest = largest.max(Some(before.index()));
        }
        if largest >= Some(answer.index()) {
            findings.push(format!(
                "request {} became entry {}, although a larger index was answered before it was sent",
                hex::encode(&call.request_id),
                answer.index()
            ));
        }
    }
    findings
}

/// Entry time never stands still and never goes back.
fn entry_times(ledger: &Ledger) -> Vec<String> {
    let times: Vec<_> = ledger
        .decoded()
        .map(|entry| (entry.index, entry.time_us))
        .collect();
    let pairs = times.windows(2).filter(|pair| pair[1].1 <= pair[0].1);
    pairs
        .map(|pair| {
            format!(
                "node {}: entry {} is not after the one before",
                ledger.node, pair[1].0
            )
        })
        .collect()
}

/// No ALLOW behind a suspension or a halt of everything, and no more payments than there may be.
fn law(ledger: &Ledger) -> Vec<String> {
    let mut findings = Vec::new();
    let mut suspended: BTreeSet<String> = BTreeSet::new();
    let mut halts: BTreeSet<String> = BTreeSet::new();
    let mut payments: BTreeMap<String, u64> = BTreeMap::new();
    for (entry, command) in ledger.commands() {
        let applied = matches!(&entry.body, Some(v1::entry::Body::Governance(done))
            if done.result() == v1::Result::Applied);
        let allowed = matches!(&entry.body, Some(v1::entry::Body::Decision(decision))
            if decision.verdict() == v1::Verdict::Allow);
        match command.body {
            Some(Body::SetStatus(set)) if applied => {
                let identity = set.identity.clone().unwrap_or_default();
                let Ok(Identity::Agent(agent)) = Identity::parse(&identity) else {
                    continue;
                };
                if set.status() == v1::IdentityStatus::Active {
                    suspended.remove(&agent);
                } else {
                    suspended.insert(agent);
                }
            }
            Some(Body::SetHalt(halt)) if applied && halt.expires_at_us == 0 => {
                halts.insert(halt.id);
            }
            Some(Body::ClearHalt(halt)) if applied => {
                halts.remove(&halt.id);
            }
            Some(Body::Authorize(asked)) if allowed => {
                let (node, index) = (ledger.node, entry.index);
                if suspended.contains(&asked.agent) {
                    findings.push(format!(
                        "node {node}: entry {index} allows a suspended agent"
                    ));
                }
                if !halts.is_empty() {
                    findings.push(format!(
                        "node {node}: entry {index} allows in spite of a halt"
                    ));
                }
                if asked.tool.is_some_and(|tool| tool.name == "pay") {
                    let count = payments.entry(asked.agent).or_default();
                    *count += 1;
                    if *count > PAYMENTS {
                        findings.push(format!("node {node}: entry {index} is payment {count}"));
                    }
                }
            }
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::test_case::{assert_finds, case};
    use super::*;

    #[test]
    fn an_entry_before_its_time_is_found() {
        let mut case = case();
        assert_eq!(judge(&case), Vec::<String>::new());
        let (first, rest) = case.history.calls.split_at_mut(1);
        std::mem::swap(&mut first[0].answer, &mut rest[0].answer);
        assert_finds(&judge(&case), "although a larger index");
    }

    #[test]
    fn a_clock_that_goes_back_is_found() {
        let mut case = case();
        let proven = &mut case.ledgers[0].entries[4];
        let mut entry = ledger_core::entry::decode(&proven.entry).expect("an entry");
        entry.time_us = 1;
        proven.entry = entry.encode_to_vec();
        assert_finds(&judge(&case), "entry 4 is not after");
    }

    /// Puts another command into an entry that took effect.
    fn doctor(case: &mut Case, body: &Body) {
        let decisions = case
            .history
            .answered()
            .map(|(_, answer)| answer.index().0)
            .min();
        let index = usize::try_from(decisions.expect("an answer") - 1).expect("small");
        let proven = &mut case.ledgers[0].entries[index];
        let mut entry = ledger_core::entry::decode(&proven.entry).expect("an entry");
        let signed = entry.signed.as_mut().expect("a command");
        let mut command = v1::Command::decode(signed.command.as_slice()).expect("a command");
        command.body = Some(body.clone());
        signed.command = command.encode_to_vec();
        let mut done = v1::Governance::default();
        done.set_result(v1::Result::Applied);
        entry.body = Some(v1::entry::Body::Governance(done));
        proven.entry = entry.encode_to_vec();
    }

    #[test]
    fn an_allow_in_spite_of_a_halt_is_found() {
        let mut case = case();
        doctor(
            &mut case,
            &Body::SetHalt(v1::SetHalt {
                id: "stop".to_owned(),
                ..v1::SetHalt::default()
            }),
        );
        assert_finds(&law(&case.ledgers[0]), "in spite of a halt");
    }

    #[test]
    fn an_allow_to_a_suspended_agent_is_found() {
        let mut case = case();
        let mut set = v1::SetStatus {
            identity: Some(Identity::Agent("agent-0".to_owned()).to_message()),
            ..v1::SetStatus::default()
        };
        set.set_status(v1::IdentityStatus::Suspended);
        doctor(&mut case, &Body::SetStatus(set));
        assert_finds(&law(&case.ledgers[0]), "allows a suspended agent");
    }

    #[test]
    fn a_payment_too_many_is_found() {
        let case = case();
        let mut ledger = case.ledgers[0].clone();
        let paid = ledger
            .commands()
            .find(|(_, command)| {
                matches!(&command.body, Some(Body::Authorize(asked))
                if asked.tool.as_ref().is_some_and(|tool| tool.name == "pay"))
            })
            .expect("somebody pays");
        let index = usize::try_from(paid.0.index).expect("small");
        let again = ledger.entries[index].clone();
        ledger.entries.extend(vec![again; 3]);
        assert_finds(&law(&ledger), "is payment 4");
    }
}
