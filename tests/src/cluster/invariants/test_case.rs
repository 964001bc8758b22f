//! A case without fault, made by the machine alone, for judges to find nothing in until a test has doctored it.

use ledger_core::evidence::receipt;
use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_proto::v1;

use super::Case;
use crate::cluster::client::request_id;
use crate::cluster::history::{Answer, Call, History, Ledger, Seen};
use crate::cluster::load::question;
use crate::cluster::people::Actor;
use crate::kit::{RULES, World, bundle};

/// Fails unless a judge has found exactly this.
#[track_caller]
pub(super) fn assert_finds(findings: &[String], expected: &str) {
    assert!(
        findings.iter().any(|finding| finding.contains(expected)),
        "expected a finding with {expected:?}, found {findings:#?}"
    );
}

/// Twenty questions of one agent, one after the other, answered by three nodes in turn.
pub(super) fn case() -> Case {
    let mut world = World::new();
    world.policy("team", &bundle("agent", RULES));
    world.agent("agent-0");
    let actor = Actor {
        agent: "agent-0".to_owned(),
        session: world.session("agent-0"),
    };
    let mut history = History::default();
    for number in 0..20 {
        let submission = world.sign(question(&actor, number));
        world.apply(&submission);
        world.now_us += 1_000;
        let index = ledger_core::machine::tip(&world.state)
            .expect("sound")
            .size
            .0
            - 1;
        let (node, start) = (1 + number % 3, 10 + number * 10);
        let note = world.checkpoint(&[node]);
        history
            .checkpoints
            .push(Seen::of_note(node, start + 3, &note));
        history.calls.push(Call {
            request_id: request_id(&submission),
            start,
            last_start: start,
            end: start + 5,
            failures: 0,
            answer: Some(Answer {
                node,
                receipt: receipt_of(&world, index, &note),
                replayed: false,
            }),
            again: Vec::new(),
        });
    }
    let size = ledger_core::machine::tip(&world.state)
        .expect("sound")
        .size
        .0;
    let whole = world.checkpoint(&[1, 2, 3]);
    let prove = |index| receipt_of(&world, index, &whole).entry.expect("an entry");
    let entries: Vec<_> = (0..size).map(prove).collect();
    let sent = world
        .log
        .iter()
        .map(|(_, sent)| (request_id(sent), sent.clone()))
        .collect();
    Case {
        history,
        ledgers: (1..=3)
            .map(|node| Ledger {
                node,
                entries: entries.clone(),
                checkpoint: whole.clone(),
            })
            .collect(),
        policy: TlogPolicy::parse(world.trust_policy().as_bytes()).expect("a policy"),
        tree_hash: TreeHash::Sha256,
        sent,
    }
}

fn receipt_of(world: &World, index: u64, note: &str) -> v1::Receipt {
    let level = v1::ReceiptLevel::Committed;
    receipt(&world.state, LeafIndex(index), note, level).expect("the ledger proves its entries")
}
