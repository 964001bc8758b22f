//! What is done to clusters, in a short form for every change and a long form for soaks: the same code with other numbers.

use std::time::{Duration, Instant};

use super::load::Load;
use super::people::Actor;
use super::wait::until;
use super::{Cluster, Options, RECOVERY, SOON};
use crate::kit::{RULES, bundle};

/// Calls that are answered between two faults, so that each meets a cluster that works.
const CALLS_BETWEEN: usize = 64;
/// Most that it may take from the death of a leader to the next decision, median.
pub const UNAVAILABLE_MEDIAN: Duration = Duration::from_secs(3);
/// The same, worst.
pub const UNAVAILABLE_WORST: Duration = Duration::from_secs(5);

/// How a node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It hears nobody, and nobody hears it.
    Both,
    /// Nobody hears it.
    Mute,
    /// It hears nobody.
    Deaf,
}

/// What kills did.
#[derive(Debug, Clone, Default)]
pub struct Kills {
    /// Kills of any node.
    pub kills: usize,
    /// How long after each kill of a leader the next decision came.
    pub unavailable: Vec<Duration>,
}

impl Kills {
    /// The median of the times without decisions.
    #[must_use]
    pub fn median(&self) -> Duration {
        let mut times = self.unavailable.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// The longest time without decisions.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.unavailable.iter().max().copied().unwrap_or_default()
    }
}

impl Cluster {
    /// Starts a cluster with so many writers' agents.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn with_actors(options: Options, actors: usize) -> (Self, Vec<Actor>) {
        let cluster = Self::start(options).await;
        let actors = cluster.settle(actors, &bundle("agent", RULES)).await;
        (cluster, actors)
    }

    /// Kills nodes under load and starts them again, every second time the leader.
    ///
    /// # Panics
    /// If the cluster does not go on.
    pub async fn kills(&mut self, load: &Load, probe: &Actor, kills: usize) -> Kills {
        let mut done = Kills::default();
        for round in 0..kills {
            load.flows(CALLS_BETWEEN, RECOVERY).await;
            let leader = self.leader().await;
            if round % 2 == 0 {
                self.kill(leader);
                done.unavailable.push(self.time_to_answer(probe).await);
                self.restart(leader);
            } else {
                let others: Vec<u64> = self
                    .nodes()
                    .into_iter()
                    .filter(|node| *node != leader)
                    .collect();
                let victim = others[round / 2 % others.len()];
                self.kill(victim);
                load.flows(CALLS_BETWEEN, RECOVERY).await;
                self.restart(victim);
            }
            done.kills += 1;
            self.is_whole().await;
        }
        done
    }

    /// Waits until every running node serves and has nearly all that the others have.
    ///
    /// # Panics
    /// If one does not.
    pub async fn is_whole(&mut self) {
        let nodes = self.nodes();
        until("all nodes serve", RECOVERY, async || {
            for node in &nodes {
                let status = self.status(*node).await?;
                if !status.ready {
                    return None;
                }
            }
            Some(())
        })
        .await;
        self.must_be_alive();
    }

    /// Cuts a node off for a while under load. If it was cut off both ways, the others must go on without it and it must
    /// decide nothing; in any case all must be well afterwards without help.
    ///
    /// # Panics
    /// If not.
    pub async fn partition(&mut self, load: &Load, node: u64, cut: Cut, during: Duration) {
        let begin = Instant::now();
        match cut {
            Cut::Both => self.network.isolate(node),
            Cut::Mute => self.network.mute(node),
            Cut::Deaf => self.network.deafen(node),
        }
        let from = self.recorder.now();
        let others: Vec<u64> = self
            .nodes()
            .into_iter()
            .filter(|other| *other != node)
            .collect();
        if cut == Cut::Both {
            self.leader_among(&others).await;
        }
        // The majority goes on, whatever the one that is cut off believes.
        load.flows(CALLS_BETWEEN, RECOVERY).await;
        let left = during.saturating_sub(begin.elapsed());
        until("the cut has lasted long enough", left + SOON, async || {
            (begin.elapsed() >= during).then_some(())
        })
        .await;
        let until = self.recorder.now();
        self.network.heal();
        if cut == Cut::Both {
            let isolation = super::history::Isolation { node, from, until };
            self.recorder
                .write(|history| history.isolations.push(isolation));
        }
        self.is_whole().await;
        load.flows(CALLS_BETWEEN, RECOVERY).await;
    }
}
