//! Whether what honest clients believed while a node lied was true: judged on what they saw, in its order, and on the ledger that
//! honest nodes have in the end.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::v1::{self, Verdict};

use crate::cluster::history::Ledger;
use crate::kit::SECOND;
use ledger_core::hash::LeafIndex;

/// How far an entry's time may be ahead of the moment at which somebody saw it: what clocks may differ, and a little.
const AHEAD: u64 = 2 * SECOND + SECOND / 2;
/// How long a clock of a client may take to be looked at.
const SLACK: u64 = SECOND;
/// Payments that the rules allow each agent in an hour, which no run takes.
const PAYMENTS: usize = 3;

/// When something happened, in steps of the run: one thing at a time.
pub type At = usize;

/// A yes that a client believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yes {
    /// Who asked.
    pub agent: String,
    /// How.
    pub how: How,
    /// The entry that says yes.
    pub index: u64,
    /// Its bytes, as they were proven to the client.
    pub entry: Vec<u8>,
    /// When the command was issued, microseconds since 1970.
    pub issued_at_us: u64,
    /// When the client believed it, microseconds since 1970.
    pub believed_at_us: u64,
}

/// How a yes came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A new question was answered.
    Asked,
    /// The same bytes were sent again, or a permit was looked at again: bounded by its length.
    Again,
    /// The permit was redeemed: now, and once.
    Redeemed {
        /// The leaf of the decision.
        decision: u64,
    },
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It believed a yes.
    Yes(Yes),
    /// It believed that this entry is in the ledger.
    Acknowledged {
        /// The leaf.
        index: u64,
        /// Its bytes.
        entry: Vec<u8>,
        /// When, microseconds since 1970.
        at_us: u64,
    },
    /// Everything is halted, acknowledged.
    Halted,
    /// Somebody has sent that the halt is lifted.
    Lifting,
    /// An agent is suspended, acknowledged.
    Suspended(String),
    /// Somebody has sent that an agent is resumed.
    Resuming(String),
    /// Evidence that verifies says that this is an entry.
    Proven {
        /// The leaf.
        index: u64,
        /// Its bytes.
        entry: Vec<u8>,
    },
}

/// What happened to clients.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// In order.
    pub events: Vec<(At, Event)>,
    /// When the run ended, microseconds since 1970.
    pub ended_at_us: u64,
}

/// What must not be, given the ledgers of all honest nodes.
#[must_use]
pub fn judge(account: &Account, ledgers: &[Ledger]) -> Vec<String> {
    let mut findings = order(account);
    findings.extend(once(account));
    for (at, event) in &account.events {
        findings.extend(permit(event).map(|finding| format!("step {at}: {finding}")));
        for ledger in ledgers {
            let found = kept(event, ledger);
            findings.extend(found.map(|finding| format!("step {at}: {finding}")));
        }
    }
    for ledger in ledgers {
        findings.extend(times(account, ledger));
        findings.extend(payments(ledger));
    }
    findings
}

/// A yes that came from a question or a redemption after a halt or a suspension was acknowledged.
fn order(account: &Account) -> Vec<String> {
    let (mut halted, mut suspended) = (false, BTreeSet::new());
    let mut findings = Vec::new();
    for (at, event) in &account.events {
        match event {
            Event::Halted => halted = true,
            Event::Lifting => halted = false,
            Event::Suspended(agent) => {
                suspended.insert(agent.clone());
            }
            Event::Resuming(agent) => {
                suspended.remove(agent);
            }
            Event::Yes(yes) if yes.how != How::Again => {
                if halted {
                    findings.push(format!(
                        "step {at}: entry {} was a yes although everything was halted",
                        yes.index
                    ));
                }
                if suspended.contains(&yes.agent) {
                    findings.push(format!(
                        "step {at}: entry {} was a yes although {} was suspended",
                        yes.index, yes.agent
                    ));
                }
            }
            Event::Yes(_) | Event::Acknowledged { .. } | Event::Proven { .. } => {}
        }
    }
    findings
}

/// Decisions that were redeemed twice.
fn once(account: &Account) -> Vec<String> {
    let mut redeemed = BTreeMap::new();
    let mut findings = Vec::new();
    for (at, event) in &account.events {
        let Event::Yes(yes) = event else { continue };
        let How::Redeemed { decision } = yes.how else {
            continue;
        };
        // The same entry may be shown again; a second entry may not be a yes.
        let first = *redeemed.entry(decision).or_insert(yes.index);
        if first != yes.index {
            findings.push(format!(
                "step {at}: decision {decision} was redeemed as entry {first}, and again as entry {}",
                yes.index
            ));
        }
    }
    findings
}

/// A permit that had ended when it was believed.
fn permit(event: &Event) -> Option<String> {
    let Event::Yes(yes) = event else { return None };
    let entry = ledger_core::entry::decode(&yes.entry).ok()?;
    let Some(v1::entry::Body::Decision(decision)) = &entry.body else {
        return None;
    };
    let index = yes.index;
    if decision.verdict() != Verdict::Allow {
        return Some(format!("entry {index} is no ALLOW, and was a yes"));
    }
    let length = decision.permit_expires_at_us.saturating_sub(entry.time_us);
    if yes.believed_at_us > yes.issued_at_us.saturating_add(length + SLACK) {
        return Some(format!(
            "the permit of entry {index} had ended, and was a yes"
        ));
    }
    None
}

/// What was believed to be in the ledger, and is not.
fn kept(event: &Event, ledger: &Ledger) -> Option<String> {
    let (index, bytes, what) = match event {
        Event::Yes(yes) => (yes.index, &yes.entry, "a yes"),
        Event::Acknowledged { index, entry, .. } => (*index, entry, "acknowledged"),
        Event::Proven { index, entry } => (*index, entry, "proven"),
        _ => return None,
    };
    let node = ledger.node;
    match ledger.bytes(LeafIndex(index)) {
        None => Some(format!("entry {index} was {what}, and node {node} lost it")),
        Some(found) if found != bytes.as_slice() => Some(format!(
            "entry {index} was {what}, and is another one on node {node}"
        )),
        Some(_) => None,
    }
}

/// Entries that are stamped ahead of the moment at which they were seen.
fn times(account: &Account, ledger: &Ledger) -> Vec<String> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, event) in &account.events {
        if let Event::Acknowledged { index, at_us, .. } = event {
            seen.entry(*index).or_insert(*at_us);
        }
    }
    let mut findings = Vec::new();
    for entry in ledger.decoded() {
        let at = seen.get(&entry.index).copied();
        let latest = at.unwrap_or(account.ended_at_us).saturating_add(AHEAD);
        if entry.time_us > latest {
            findings.push(format!(
                "node {}: entry {} is stamped {} s ahead of the moment when it was there",
                ledger.node,
                entry.index,
                (entry.time_us - latest + AHEAD) / SECOND
            ));
        }
    }
    findings
}

/// Payments that the rules forbid.
fn payments(ledger: &Ledger) -> Vec<String> {
    let mut paid: BTreeMap<String, usize> = BTreeMap::new();
    for (entry, command) in ledger.commands() {
        let (Some(v1::entry::Body::Decision(decision)), Some(v1::command::Body::Authorize(asked))) =
            (&entry.body, command.body)
        else {
            continue;
        };
        let is_payment = asked.tool.is_some_and(|tool| tool.name == "pay");
        if is_payment && decision.verdict() == Verdict::Allow {
            *paid.entry(asked.agent).or_default() += 1;
        }
    }
    let over = paid.into_iter().filter(|(_, times)| *times > PAYMENTS);
    over.map(|(agent, times)| {
        format!(
            "node {}: {agent} was allowed {times} payments within an hour",
            ledger.node
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger_core::machine::Appended;

    use crate::kit::{World, bank, decision_of};

    /// A ledger with a yes, and a client who believed it.
    fn told() -> (Account, Vec<Ledger>, Appended) {
        let mut world = World::new();
        world.agent("bot");
        world.policy("team", &bank());
        let session = world.session("bot");
        let decided = world.authorize("bot", session, "bank/read", r#"{"doc":"a"}"#);
        assert_eq!(decision_of(&decided.entry).verdict(), Verdict::Allow);
        let entries = (0..=decided.index.0)
            .map(|leaf| v1::ProvenEntry {
                index: leaf,
                entry: prost::Message::encode_to_vec(&world.entry(leaf)),
                path: Vec::new(),
            })
            .collect();
        let ledger = Ledger {
            node: 1,
            entries,
            checkpoint: String::new(),
        };
        let account = Account {
            events: vec![(1, Event::Yes(yes(&decided, How::Asked)))],
            ended_at_us: world.now_us + SECOND,
        };
        (account, vec![ledger], decided)
    }

    fn yes(decided: &Appended, how: How) -> Yes {
        Yes {
            agent: "bot".to_owned(),
            how,
            index: decided.index.0,
            entry: decided.bytes.clone(),
            issued_at_us: decided.entry.time_us,
            believed_at_us: decided.entry.time_us + SECOND,
        }
    }

    #[track_caller]
    fn assert_finds(account: &Account, ledgers: &[Ledger], expected: &str) {
        let found = judge(account, ledgers);
        let is_found = found.iter().any(|finding| finding.contains(expected));
        assert!(is_found, "expected {expected:?} in {found:#?}");
    }

    #[test]
    fn a_true_account_is_believed() {
        let (account, ledgers, _) = told();
        assert_eq!(judge(&account, &ledgers), Vec::<String>::new());
    }

    #[test]
    fn a_yes_after_a_halt_or_a_suspension_is_found() {
        for (event, lifted, says) in [
            (Event::Halted, Event::Lifting, "everything was halted"),
            (
                Event::Suspended("bot".to_owned()),
                Event::Resuming("bot".to_owned()),
                "was suspended",
            ),
        ] {
            let (mut account, ledgers, _) = told();
            account.events.insert(0, (0, event));
            assert_finds(&account, &ledgers, says);
            account.events.insert(1, (0, lifted));
            assert_eq!(judge(&account, &ledgers), Vec::<String>::new());
        }
    }

    #[test]
    fn a_dead_permit_is_found() {
        let (mut account, ledgers, decided) = told();
        let mut late = yes(&decided, How::Again);
        late.believed_at_us += 3_600 * SECOND;
        account.events.push((2, Event::Yes(late)));
        assert_finds(&account, &ledgers, "had ended, and was a yes");
    }

    #[test]
    fn a_second_redemption_is_found() {
        let (mut account, ledgers, decided) = told();
        let mut first = yes(&decided, How::Redeemed { decision: 3 });
        account.events.push((2, Event::Yes(first.clone())));
        account.events.push((3, Event::Yes(first.clone())));
        assert_eq!(judge(&account, &ledgers), Vec::<String>::new());
        first.index += 1;
        account.events.push((4, Event::Yes(first)));
        assert_finds(&account, &ledgers, "was redeemed as entry");
    }

    #[test]
    fn an_entry_that_is_lost_or_another_one_is_found() {
        let (account, mut ledgers, decided) = told();
        let at = usize::try_from(decided.index.0).expect("small");
        let mut other = ledgers.clone();
        other[0].entries[at].entry = other[0].entries[0].entry.clone();
        assert_finds(&account, &other, "is another one on node 1");
        ledgers[0].entries.truncate(at);
        assert_finds(&account, &ledgers, "and node 1 lost it");
    }

    #[test]
    fn a_time_ahead_is_found() {
        let (mut account, ledgers, decided) = told();
        account.ended_at_us = decided.entry.time_us - 61 * SECOND;
        assert_finds(&account, &ledgers, "is stamped 61 s ahead");
    }

    #[test]
    fn a_payment_too_many_is_found() {
        let (account, mut ledgers, _) = told();
        let mut world = World::new();
        world.agent("bot");
        world.policy("team", &bank());
        let session = world.session("bot");
        let paid = world.authorize("bot", session, "bank/pay", r#"{"to":"bob","amount":1}"#);
        let proven = v1::ProvenEntry {
            index: paid.index.0,
            entry: paid.bytes,
            path: Vec::new(),
        };
        ledgers[0].entries.extend(vec![proven; 4]);
        assert_finds(&account, &ledgers, "was allowed 4 payments");
    }
}
