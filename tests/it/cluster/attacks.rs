//! One node's word: whatever a member says in the peer protocol, with its own key, the other nodes go on, take nothing into their
//! log that they could have known to be wrong, and say who has sent it.

use countersign_tests::cluster::load::question;
use countersign_tests::cluster::peer::{PeerClient, PeerSpeaker, election};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options};
use ledger_core::batch::BatchBuilder;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_node::clock::{Clock as _, SystemClock};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;
use ledger_proto::v1;
use prost::Message as _;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A member that says what it likes, beside the honest process with the same key.
pub(super) struct Liar<'c> {
    cluster: &'c Cluster,
    peers: PeerSpeaker,
    pub(super) node: u64,
}

impl<'c> Liar<'c> {
    /// A follower's key is the one that was stolen.
    pub(super) async fn among(cluster: &'c Cluster) -> Self {
        Self::with_key_of(cluster, cluster.follower().await)
    }

    /// This node's key is the one that was stolen.
    pub(super) fn with_key_of(cluster: &'c Cluster, node: u64) -> Self {
        let peers = PeerSpeaker::of(cluster, node);
        Self {
            cluster,
            peers,
            node,
        }
    }

    pub(super) fn victims(&self) -> impl Iterator<Item = u64> {
        let node = self.node;
        self.cluster
            .nodes()
            .into_iter()
            .filter(move |to| *to != node)
    }

    fn client(&self, to: u64) -> PeerClient {
        self.peers.client(to)
    }

    pub(super) fn vote(&self, term: u64, committed: bool) -> Option<wire::Vote> {
        Some(wire::Vote {
            term,
            node_id: self.node,
            committed,
        })
    }

    /// What a node says of its vote and of the end of its log.
    async fn rehearse(&self, to: u64) -> wire::VoteResponse {
        let message = wire::VoteRequest {
            vote: self.vote(1, false),
            ..wire::VoteRequest::default()
        };
        let mut client = self.client(to);
        let answer = client.pre_vote(self.peers.request(to, message));
        answer.await.expect("a rehearsal is answered").into_inner()
    }

    /// The only answer to an append.
    pub(super) async fn append(&self, to: u64, message: wire::AppendRequest) -> Option<Answer> {
        let request = self.peers.request(to, tokio_stream::iter([message]));
        let answers = self.client(to).append(request).await.ok()?;
        answers.into_inner().message().await.ok()??.result
    }

    /// An append that fits a node's log, of the next term, with one batch; all nodes have voted for its sender.
    pub(super) async fn fitting(&self, to: u64, batch: v1::Batch) -> wire::AppendRequest {
        let bytes = batch.encode_to_vec();
        let payload = wire::log_entry::Payload::Batch(bytes.into());
        self.fitting_entry(to, payload).await
    }

    pub(super) async fn fitting_entry(
        &self,
        to: u64,
        payload: wire::log_entry::Payload,
    ) -> wire::AppendRequest {
        let known = self.rehearse(to).await;
        let term = known.vote.expect("a vote").term + 1;
        let previous = known.last_log_id.expect("a log");
        let log_id = wire::LogId {
            term,
            index: previous.index + 1,
        };
        let vote = self.vote(term, true);
        wire::AppendRequest {
            election: election(self.cluster, &vote.unwrap_or_default()),
            vote,
            previous: Some(previous),
            entries: vec![wire::LogEntry {
                log_id: Some(log_id),
                payload: Some(payload),
            }],
            committed: Some(log_id),
            sent_at_us: SystemClock.now_us(),
            has_quorum: true,
        }
    }
}

/// Size and root of the tree that a quorum has cosigned.
pub(super) async fn cosigned(cluster: &Cluster) -> Checkpoint {
    let node = cluster.nodes()[0];
    let size = cluster.must_status(node).await.tree_size;
    let note = cluster.checkpoint(node, size).await.expect("cosigned");
    let note = Note::parse(note.as_bytes()).expect("a note");
    Checkpoint::parse(note.text()).expect("a checkpoint")
}

/// A batch with one question of an agent, as a proposer that has this tree would make it.
pub(super) fn batch(
    cluster: &Cluster,
    actor: &Actor,
    time_us: u64,
    prior: (u64, &[u8; 32]),
) -> v1::Batch {
    let mut batch = BatchBuilder::new(time_us, prior.0, prior.1);
    let submission = cluster.signing.command(question(actor, 1_000_000));
    batch.push(submission).expect("there is room");
    batch.finish()
}

/// Decides something, and finds all nodes alive with the same ledger.
pub(super) async fn goes_on(cluster: &mut Cluster, actor: &Actor) {
    cluster.leader().await;
    let _ = cluster.time_to_answer(actor).await;
    cluster.converge().await;
    for node in cluster.nodes() {
        assert_eq!(cluster.process(node).ended(), None, "node {node}");
    }
}

fn said(cluster: &Cluster, node: u64) -> String {
    std::fs::read_to_string(cluster.file(node).log()).expect("a log")
}

/// A batch dated ahead would let an agent do what the rules forbid now, and keep every node with a right clock from leading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_dated_ahead_is_refused_by_every_node_and_leaves_nothing() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let tree = cosigned(&cluster).await;
    let prior = (tree.size().0, tree.root());
    for ahead in [61 * SECOND, 89 * DAY] {
        for to in liar.victims() {
            let time_us = SystemClock.now_us() + ahead;
            let dated = batch(&cluster, &actors[0], time_us, (prior.0, prior.1.as_bytes()));
            let answer = liar.append(to, liar.fitting(to, dated).await).await;
            let Some(Answer::Refused(refused)) = answer else {
                panic!("node {to} has taken a batch of the future: {answer:?}");
            };
            assert_eq!(refused.check(), wire::AppendCheck::Time, "{refused:?}");
        }
    }
    for to in liar.victims() {
        assert_eq!(
            cluster.must_status(to).await.tree_size,
            prior.0,
            "node {to}"
        );
        let log = said(&cluster, to);
        assert!(
            log.contains("what a leader sends for the log is refused"),
            "{log}"
        );
        assert!(log.contains(&format!("node_id={}", liar.node)), "{log}");
    }
    goes_on(&mut cluster, &actors[0]).await;
}

/// openraft adds one to whatever term it has taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_that_no_election_has_led_to_is_refused_and_nobody_ends() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let end = Some(wire::LogId {
        term: u64::MAX,
        index: u64::MAX,
    });
    for to in liar.victims() {
        for term in [u64::MAX, u64::MAX - 1, 1 << 40] {
            let message = wire::VoteRequest {
                vote: liar.vote(term, false),
                last_log_id: end,
                leadership_transfer: true,
                sent_at_us: 0,
            };
            let mut client = liar.client(to);
            let asked = client.vote(liar.peers.request(to, message));
            asked.await.expect_err("refused");
            let message = wire::AppendRequest {
                vote: liar.vote(term, true),
                ..wire::AppendRequest::default()
            };
            let answer = liar.append(to, message).await;
            assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
        }
    }
    goes_on(&mut cluster, &actors[0]).await;
    for node in cluster.nodes() {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.restart(node);
    }
    goes_on(&mut cluster, &actors[0]).await;
}

/// Committed, a batch whose proposer had another tree stopped every node, at each start again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_on_another_tree_is_void_and_its_proposer_is_named() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let size = cosigned(&cluster).await.size().0;
    for to in liar.victims() {
        let other = batch(&cluster, &actors[0], SystemClock.now_us(), (size, &[0; 32]));
        let _ = liar.append(to, liar.fitting(to, other).await).await;
    }
    let names = format!("node {} has proposed a batch", liar.node);
    goes_on(&mut cluster, &actors[0]).await;
    let nodes = cluster.nodes().into_iter();
    let named = nodes.filter(|node| said(&cluster, *node).contains(&names));
    assert_ne!(named.count(), 0, "nobody says {names:?}");
    for node in cluster.nodes() {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.restart(node);
    }
    goes_on(&mut cluster, &actors[0]).await;
}

/// What the leader has not asked for is no transfer: its lease stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_the_lead_by_saying_that_it_was_handed_over() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let liar = Liar::among(&cluster).await;
    for _ in 0..5 {
        for to in liar.victims() {
            let known = liar.rehearse(to).await;
            let message = wire::VoteRequest {
                vote: liar.vote(known.vote.expect("a vote").term + 1, false),
                last_log_id: known.last_log_id,
                leadership_transfer: true,
                sent_at_us: SystemClock.now_us(),
            };
            let mut client = liar.client(to);
            let asked = client.vote(liar.peers.request(to, message));
            let answer = asked.await.expect("an answer").into_inner();
            assert!(!answer.granted, "node {to}: {answer:?}");
        }
    }
    assert_eq!(cluster.leader().await, leader);
    goes_on(&mut cluster, &actors[0]).await;
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn coin(&mut self) -> bool {
        self.roll().is_multiple_of(2)
    }

    /// A number near one that fits, or far from it.
    const fn near(&mut self, fits: u64) -> u64 {
        match self.roll() % 8 {
            0 => u64::MAX,
            1 => self.roll(),
            2 => 0,
            _ => fits.saturating_add(self.roll() % 5).saturating_sub(2),
        }
    }

    const fn id(&mut self, fits: wire::LogId) -> wire::LogId {
        wire::LogId {
            term: self.near(fits.term),
            index: self.near(fits.index),
        }
    }
}

/// An append of a leader that was never elected, with entries of nothing behind some entry.
fn any_append(dice: &mut Dice, vote: Option<wire::Vote>, end: wire::LogId) -> wire::AppendRequest {
    let previous = dice.id(end);
    let mut index = previous.index;
    let mut entries = Vec::new();
    for _ in 0..dice.roll() % 4 {
        index = index.wrapping_add(1);
        entries.push(wire::LogEntry {
            log_id: Some(wire::LogId {
                term: dice.near(previous.term),
                index,
            }),
            payload: Some(wire::log_entry::Payload::Blank(true)),
        });
    }
    wire::AppendRequest {
        vote,
        previous: Some(previous),
        entries,
        // A leader is believed when it says what is committed: this one says nothing.
        committed: None,
        sent_at_us: dice.near(0),
        has_quorum: dice.coin(),
        election: Vec::new(),
    }
}

/// openraft asserts what it takes for granted. No sequence of messages must get to one of its assertions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sequence_of_messages_ends_a_node() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let mut dice = Dice(20_261_130);
    for _ in 0..60 {
        for to in liar.victims() {
            let known = liar.rehearse(to).await;
            let term = known.vote.unwrap_or_default().term;
            let end = known.last_log_id.unwrap_or_default();
            let vote = |dice: &mut Dice| liar.vote(dice.near(term), dice.coin());
            let claimed = vote(&mut dice);
            let mut message = any_append(&mut dice, claimed, end);
            if dice.coin() {
                message.election = election(&cluster, &claimed.unwrap_or_default());
            }
            let _ = liar.append(to, message).await;
            let message = wire::VoteRequest {
                vote: vote(&mut dice),
                last_log_id: Some(dice.id(end)),
                leadership_transfer: dice.coin(),
                sent_at_us: dice.near(0),
            };
            let mut client = liar.client(to);
            let _ = client.vote(liar.peers.request(to, message)).await;
            let _ = client.pre_vote(liar.peers.request(to, message)).await;
            let message = wire::TransferLeaderRequest {
                from: vote(&mut dice),
                to: dice.near(to),
                last_log_id: Some(dice.id(end)),
            };
            let _ = client
                .transfer_leader(liar.peers.request(to, message))
                .await;
        }
    }
    goes_on(&mut cluster, &actors[0]).await;
}
