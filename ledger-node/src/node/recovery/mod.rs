//! The start of a node whose disk may have gone back in time: it asks the others what it has promised them before it promises
//! anything again. Viewstamped replication recovers in this way; decision 0024 says what is different here.
//!
//! A node on the data directory that it wrote last asks too, but waits for nobody for long: its disk remembers for it.

mod ask;
mod judge;
mod own_disk;
mod told;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ask::{Outcome, ask};
use self::judge::{Answer, Case, Directory, Floor, Refused, Verdict, Waiting};
use self::own_disk::unreadable;
pub(super) use self::own_disk::{NotRecovered, Parts};
use self::told::{ToldMembers, to_ask};
use self::words::{refused, waits};
use crate::apply::applier::AppliedState;
use crate::fatal::disk;
use crate::raft::Raft;
use crate::raft::participation::Stage;
use crate::raft::types::{self, Members};
use crate::seldom::Seldom;
use crate::storage::{Table, meta};
use crate::worker::{self, Worker};

/// How long a node on its own data directory waits for the others: they are asked as soon as the store is open, and answer while
/// the rest of the node is put together.
const AT_MOST: Duration = Duration::from_millis(300);
/// Between two questions to the same node, the first [`SOON`] times.
const AGAIN: Duration = Duration::from_millis(100);
/// How many questions follow each other at that pace: nodes that start together find each other in that time.
const SOON: u32 = 30;
/// Between two questions from then on.
const LATER: Duration = Duration::from_secs(1);
/// Between two looks whether what is lacking has come.
const LOOK: Duration = Duration::from_millis(100);
/// Between two lines about what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What one node said when it was asked.
type Heard = (u64, Outcome);

/// A recovery that has begun: the others are being asked.
pub(super) struct Recovery {
    parts: Parts,
    directory: Directory,
    begins: bool,
    members: Members,
    told: ToldMembers,
    asked: BTreeSet<u64>,
    asking: JoinSet<()>,
    answers: BTreeMap<u64, Answer>,
    refused_by: BTreeSet<u64>,
    /// What this node must reach before it votes.
    floor: Option<Floor>,
    /// Who has answered or failed to at least once.
    tried: BTreeSet<u64>,
    /// Until when those are waited for who do not answer.
    has_time_until: Instant,
    hearing: mpsc::Receiver<Heard>,
    telling: mpsc::Sender<Heard>,
}

impl Recovery {
    /// Looks at the data directory and begins to ask.
    ///
    /// # Errors
    /// The directory or the store cannot be read.
    pub(super) fn begin(parts: Parts) -> Result<Self, NotRecovered> {
        let directory = parts.directory()?;
        if directory == Directory::Continued {
            parts.peers.participation.set_remembers();
        }
        let begins = parts.store.get(Table::Meta, meta::BOOTSTRAP);
        let begins = begins.map_err(unreadable)?.is_some();
        let members = AppliedState::read(&*parts.store)
            .map_err(unreadable)?
            .members;
        let (telling, hearing) = mpsc::channel(16);
        let mut recovery = Self {
            parts,
            directory,
            begins,
            members,
            told: ToldMembers::default(),
            asked: BTreeSet::new(),
            asking: JoinSet::new(),
            answers: BTreeMap::new(),
            refused_by: BTreeSet::new(),
            floor: None,
            tried: BTreeSet::new(),
            has_time_until: Instant::now() + AT_MOST,
            hearing,
            telling,
        };
        recovery.ask_all();
        Ok(recovery)
    }

    /// The sets of voters that count, and where the nodes are: those that this node knows, and those of newer memberships that others
    /// told it of.
    fn voters(&self) -> (Vec<BTreeSet<u64>>, BTreeMap<u64, types::Peer>) {
        let (mut sets, mut nodes) = self.own_voters();
        self.told.add_sets(&mut sets);
        self.told.add_nodes(&mut nodes);
        (sets, nodes)
    }

    /// The sets of voters that this node knows itself, and where its nodes are.
    fn own_voters(&self) -> (Vec<BTreeSet<u64>>, BTreeMap<u64, types::Peer>) {
        let own = self.members.membership();
        let (mut sets, mut nodes) = (own.get_joint_config().to_vec(), BTreeMap::new());
        if sets.is_empty() {
            sets.push(self.parts.first_nodes.keys().copied().collect());
            nodes.extend(self.parts.first_nodes.clone());
        }
        nodes.extend(own.nodes().map(|(id, peer)| (*id, peer.clone())));
        (sets, nodes)
    }

    /// Asks all voters again and again, each of them until this is dropped.
    fn ask_all(&mut self) {
        let own: BTreeSet<u64> = self.own_voters().0.into_iter().flatten().collect();
        let (sets, nodes) = self.voters();
        let directory = Arc::clone(self.parts.peers.transport.directory());
        let is_listed = |id: u64| directory.by_id(id).is_some();
        for (id, peer) in to_ask(&own, sets, &nodes, is_listed) {
            if id == self.parts.peers.node_id || !self.asked.insert(id) {
                continue;
            }
            let (peers, key) = (Arc::clone(&self.parts.peers), self.parts.own_key.clone());
            let (address, telling) = (peer.address, self.telling.clone());
            self.asking.spawn(async move {
                for times in 0_u32.. {
                    let outcome = ask(&peers, &key, id, &address).await;
                    if telling.send((id, outcome)).await.is_err() {
                        return;
                    }
                    let pause = if times < SOON { AGAIN } else { LATER };
                    tokio::time::sleep(pause).await;
                }
            });
        }
    }

    /// Takes in what one node said.
    fn hear(&mut self, (from, outcome): Heard) -> Result<(), NotRecovered> {
        self.tried.insert(from);
        match outcome {
            Outcome::Answered(answered) => {
                let (answer, held, members) = *answered;
                self.refused_by.remove(&from);
                let cosigned = held.map(|held| self.parts.held(held)).transpose()?;
                self.answers.insert(from, Answer { cosigned, ..answer });
                self.told.hear(from, members, &self.members);
                // A node that was told of earlier may be listed only now.
                self.ask_all();
            }
            Outcome::OtherStore => {
                self.answers.remove(&from);
                self.refused_by.insert(from);
            }
            Outcome::Silent => {}
        }
        Ok(())
    }

    fn verdict(&self, has_had_time: bool) -> Result<Verdict, NotRecovered> {
        let (voters, _) = self.voters();
        let case = Case {
            directory: self.directory,
            begins: self.begins,
            accepted: self.parts.accepted,
            own: &self.parts.own()?,
            voters: &voters,
            answers: &self.answers,
            refused_by: &self.refused_by,
            is_asked: has_had_time || self.asked.is_subset(&self.tried),
        };
        Ok(case.verdict())
    }

    /// Lets Raft run once this node may follow. False if the node is stopped before.
    ///
    /// # Errors
    /// It must not run on this data, or the disk cannot be written.
    pub(super) async fn run(
        &mut self,
        raft: &Raft,
        stop: &CancellationToken,
    ) -> Result<bool, NotRecovered> {
        let fatal = self.parts.fatal.clone();
        tokio::select! {
            may_run = self.may_run() => may_run?,
            message = fatal.stopped() => return Err(NotRecovered::Fatal(message)),
            () = stop.cancelled() => return Ok(false),
        }
        self.begin_to_run(raft)?;
        Ok(true)
    }

    /// Returns once this node may follow.
    async fn may_run(&mut self) -> Result<(), NotRecovered> {
        let (mut has_had_time, said) = (false, Seldom::new(SAY_AGAIN));
        loop {
            match self.verdict(has_had_time)? {
                Verdict::Open(floor) => {
                    self.tell_opened(floor);
                    self.floor = floor;
                    return Ok(());
                }
                Verdict::Refuse(why) => return Err(NotRecovered::Data(refused(&why))),
                Verdict::Wait(waiting) => {
                    let why = waits(self.directory, &waiting);
                    if has_had_time && said.may_say() {
                        tracing::warn!("{why}");
                    }
                    self.parts.peers.participation.set(Stage::Asking(why));
                }
            }
            tokio::select! {
                heard = self.hearing.recv() => {
                    if let Some(heard) = heard {
                        self.hear(heard)?;
                    }
                }
                () = tokio::time::sleep_until(self.has_time_until), if !has_had_time => {
                    has_had_time = true;
                }
            }
        }
    }

    fn tell_opened(&self, floor: Option<Floor>) {
        if self.directory == Directory::Copied && self.parts.accepted {
            tracing::warn!("the data directory is a copy, and is believed on an operator's word");
        } else if let Some(floor) = floor {
            tracing::warn!(
                term = floor.term,
                index = floor.last_log.map(|id| id.index),
                "the data directory is new or a copy, and nobody holds a promise that it has forgotten: this node follows, and votes once it is as far as the others were"
            );
        }
    }

    /// Lets Raft run. A node that must reach something first neither votes nor campaigns until then.
    fn begin_to_run(&self, raft: &Raft) -> Result<(), NotRecovered> {
        match self.floor {
            None => self.parts.open()?,
            Some(floor) => {
                let index = floor.last_log.map_or(0, |id| id.index);
                self.parts.peers.participation.set(Stage::CatchingUp(format!(
                    "the data directory is new or a copy: this node votes and cosigns once its log reaches {index}, where the others were"
                )));
                raft.runtime_config().elect(false);
            }
        }
        raft.run();
        Ok(())
    }

    /// Goes on beside the node, until that ends.
    pub(super) fn go_on(self, raft: Raft, ended: CancellationToken) {
        let guard = self.parts.fatal.guard(Worker::Recovery);
        tokio::spawn(async move {
            let _guard = guard;
            ended.run_until_cancelled(self.finish(raft)).await
        });
    }

    /// Lets the node vote once it has reached the floor, and goes on asking until everybody has answered once: what nobody knew at
    /// the start may be known to a node that was down.
    async fn finish(mut self, raft: Raft) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            worker::strike(Worker::Recovery);
            let done = match self.step(&raft) {
                Ok(done) => done,
                Err(NotRecovered::Data(why) | NotRecovered::Fatal(why)) => {
                    return self.parts.fatal.stop(why);
                }
                Err(NotRecovered::Disk(what, error)) => {
                    return self.parts.fatal.stop(disk(what, &error));
                }
            };
            if done {
                return;
            }
            tokio::select! {
                heard = self.hearing.recv() => {
                    if let Some(heard) = heard
                        && let Err(NotRecovered::Disk(what, error)) = self.hear(heard)
                    {
                        return self.parts.fatal.stop(disk(what, &error));
                    }
                }
                _ = looks.tick(), if self.floor.is_some() => {}
            }
        }
    }

    /// True if nothing is left to be done.
    fn step(&mut self, raft: &Raft) -> Result<bool, NotRecovered> {
        let own = self.parts.own()?;
        for (by, answer) in &self.answers {
            if let Some(forgotten) = judge::forgotten(&own, *by, answer) {
                return Err(NotRecovered::Data(refused(&Refused::Forgotten(forgotten))));
            }
        }
        if self.directory == Directory::New && !self.refused_by.is_empty() {
            // It took part because nobody who answered then had met this id before.
            let waiting = Waiting::OtherStore(self.refused_by.clone());
            return Err(NotRecovered::Data(waits(self.directory, &waiting)));
        }
        if self.floor.is_some_and(|floor| floor.is_reached(&own)) {
            self.floor = None;
            self.parts.open()?;
            raft.runtime_config().elect(true);
            tracing::info!("this node is as far as the others were, and votes");
        }
        let heard = |id: &u64| self.answers.contains_key(id) || self.refused_by.contains(id);
        Ok(self.floor.is_none() && self.asked.iter().all(heard))
    }
}
