//! Watches this node's clock, whether it leads or not: asks the other nodes for theirs, and says what follows. A node whose clock is
//! off stamps nothing, leads nobody, and takes no commands, which it would refuse as stale or find fresh when they are not.

use std::sync::Arc;
use std::time::Duration;

use ledger_core::evidence::utc;
use ledger_core::machine::Tip;
use ledger_proto::peer::v1 as wire;
use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use super::start::Node;
use crate::clock::Clock;
use crate::raft::Raft;
use crate::raft::clocks::Comparison;
use crate::raft::hand_over::{ask_to_lead, successor};
use crate::raft::peers::{Peers, Purpose};
use crate::raft::standing::Mandate;
use crate::raft::types::Types;
use crate::seldom::Seldom;
use crate::submit::pace::Pace;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a node has to say what its clock shows.
const ASK: Duration = Duration::from_millis(500);
/// Between two words on a clock that stays off.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The timekeeper of a node.
pub(super) struct Timekeeper {
    raft: Raft,
    peers: Arc<Peers>,
    tip: watch::Receiver<Tip>,
    clock: Arc<dyn Clock>,
    pace: Arc<Pace>,
    /// The clock at the last look, sound or not.
    looked: Pace,
    mandate: watch::Sender<Mandate>,
    clock_is_off: watch::Sender<Option<String>>,
    said: Seldom,
}

impl Timekeeper {
    pub(super) fn new(node: &Node) -> Self {
        Self {
            raft: node.raft.clone(),
            peers: Arc::clone(&node.peers),
            tip: node.tip.clone(),
            clock: Arc::clone(&node.clock),
            pace: Arc::clone(&node.pace),
            looked: Pace::default(),
            mandate: node.mandate.clone(),
            clock_is_off: node.clock_is_off.clone(),
            said: Seldom::new(SAY_AGAIN),
        }
    }

    /// Watches until the node ends.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let metrics = self.raft.metrics().borrow_watched().clone();
            self.ask_all(&metrics).await;
            self.look(&metrics).await;
        }
    }

    /// Asks all other nodes what their clocks show.
    async fn ask_all(&self, metrics: &RaftMetrics<Types>) {
        let membership = metrics.membership_config.membership();
        let others = membership.nodes().filter(|(id, _)| **id != metrics.id);
        let asked = others.map(|(id, peer)| self.ask(*id, &peer.address));
        futures_util::future::join_all(asked).await;
    }

    async fn ask(&self, node: u64, address: &str) {
        let Ok(mut client) = self.peers.client(node, address, Purpose::Heartbeat) else {
            return;
        };
        let sent_at_us = self.peers.now_us();
        let mut request = self
            .peers
            .request(node, wire::GetClockRequest { sent_at_us });
        request.set_timeout(ASK);
        // A node that does not answer is asked again at the next look.
        let asked = tokio::time::timeout(ASK, client.get_clock(request));
        if let Ok(Ok(answer)) = asked.await {
            let clock_us = answer.into_inner().clock_us;
            let now_us = self.peers.now_us();
            self.peers.clocks.record(node, sent_at_us, clock_us, now_us);
        }
    }

    async fn look(&self, metrics: &RaftMetrics<Types>) {
        let (now_us, instant) = (self.clock.now_us(), self.clock.instant());
        // What was said of a clock before it jumped says nothing of it now: new answers are there at the next look.
        let has_jumped = self.looked.is_broken(now_us, instant);
        self.looked.keep(now_us, instant);
        if has_jumped {
            tracing::warn!(
                "the clock has jumped; nothing is stamped until the others' clocks were compared with it"
            );
            self.peers.clocks.forget();
            return;
        }
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let ledger_us = self.tip.borrow().clock_us();
        let clocks = &self.peers.clocks;
        let found = clocks.compare(metrics.id, &voters, now_us, ledger_us);
        if found == Comparison::Unknown {
            // Until it is known, what was known before counts, while the clock runs evenly.
            return;
        }
        let off = in_words(&found, now_us, ledger_us);
        let mandate = mandate(&found);
        if mandate != Mandate::None {
            self.pace.keep(now_us, instant);
        }
        let changed = self.mandate.send_if_modified(|current| {
            let changed = *current != mandate;
            *current = mandate;
            changed
        });
        if let Some(reason) = &off
            && (self.said.may_say() || changed)
        {
            tracing::error!("{reason}");
        }
        if changed && mandate == Mandate::Full {
            tracing::info!("the clock is sound again");
        }
        self.clock_is_off.send_replace(off);
        if mandate == Mandate::None {
            self.hand_over().await;
        }
    }

    /// Whoever leads without stamping anything keeps others from it.
    async fn hand_over(&self) {
        if self.raft.is_leader()
            && let Ok(to) = successor(&self.raft, &self.peers, None)
        {
            let _ = ask_to_lead(&self.raft, &self.peers, to).await;
        }
    }
}

/// What a node may propose whose clock compares so with the others' and with the ledger.
const fn mandate(found: &Comparison) -> Mandate {
    match found {
        Comparison::Sound | Comparison::Unknown => Mandate::Full,
        // With a quorum's clocks, it is the ledger that is off.
        Comparison::BehindLedger {
            with_quorum: true, ..
        } => Mandate::AdjustTime,
        Comparison::Off { .. } | Comparison::BehindLedger { .. } => Mandate::None,
    }
}

/// Why a clock is not to be used, with the times that say so; none if it is sound.
fn in_words(found: &Comparison, now_us: u64, ledger_us: u64) -> Option<String> {
    let (now, ledger) = (utc(now_us), utc(ledger_us));
    match found {
        Comparison::Sound | Comparison::Unknown => None,
        Comparison::Off { ahead_us, clocks } => {
            let by = span(ahead_us.unsigned_abs());
            let side = if *ahead_us > 0 { "ahead of" } else { "behind" };
            let median = utc(now_us.saturating_add_signed(ahead_us.saturating_neg()));
            Some(format!(
                "this node's clock is off: it shows {now}, {by} {side} the median of {clocks} nodes' clocks, {median}; see to its time service, and send the same command to another node"
            ))
        }
        Comparison::BehindLedger {
            by_us,
            with_quorum: false,
        } => Some(format!(
            "this node's clock is off: it shows {now}, {} behind the last entry of the ledger, {ledger}; see to its time service, and send the same command to another node",
            span(*by_us)
        )),
        Comparison::BehindLedger {
            by_us,
            with_quorum: true,
        } => Some(format!(
            "the ledger's time is ahead: its last entry is of {ledger}, {} after {now}, which a quorum's clocks show; nothing is decided until they have come to it, or admins adjust it: see `ledger-client cluster adjust-time`, and \"The ledger's time is ahead\" in docs/operations.md",
            span(*by_us)
        )),
    }
}

/// A length of time as people read it.
fn span(us: u64) -> String {
    let s = us.saturating_add(500_000) / 1_000_000;
    let (hours, minutes) = (s / 3_600, s / 60 % 60);
    if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", s % 60)
    } else {
        format!("{}.{} s", us / 1_000_000, us / 100_000 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    /// 2026-11-30T12:00:00Z.
    const NOW: u64 = 1_796_040_000_000_000;

    #[test]
    fn what_is_said_of_a_clock_names_the_times_and_by_how_much() {
        let off = |ahead_s: i64| Comparison::Off {
            ahead_us: ahead_s * SECOND,
            clocks: 3,
        };
        let said = |found: &Comparison| in_words(found, NOW, NOW + 7_200_000_000);
        assert_eq!(said(&Comparison::Sound), None);
        let ahead = said(&off(400)).unwrap();
        assert!(
            ahead.contains("it shows 2026-11-30T12:00:00Z, 6 min 40 s ahead of the median of 3 nodes' clocks, 2026-11-30T11:53:20Z"),
            "{ahead}"
        );
        let behind = said(&off(-90_000)).unwrap();
        assert!(behind.contains("25 h 0 min behind the median"), "{behind}");
        for (with_quorum, words) in [
            (
                false,
                "2 h 0 min behind the last entry of the ledger, 2026-11-30T14:00:00Z",
            ),
            (
                true,
                "the ledger's time is ahead: its last entry is of 2026-11-30T14:00:00Z, 2 h 0 min after 2026-11-30T12:00:00Z",
            ),
        ] {
            let by_us = 7_200_000_000;
            let found = Comparison::BehindLedger { by_us, with_quorum };
            let said = said(&found).unwrap();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(span(2_340_000), "2.3 s");
    }
}
