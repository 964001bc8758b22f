//! Who leads, and who the replicas are, is nobody's word: a leader shows that it was elected, and what it says of the membership is
//! what the ledger says.

use countersign_tests::cluster::lying_node::LyingNode;
use countersign_tests::cluster::lying_node::script::PeerAnswers;
use countersign_tests::cluster::peer::election;
use countersign_tests::cluster::{Cluster, Options};
use ledger_node::clock::{Clock as _, SystemClock};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;

use super::attacks::{Liar, batch, cosigned, goes_on};

/// What a node said to an append that it refused.
#[track_caller]
fn refused(answer: Option<Answer>, what: &str) -> wire::RefusedAppend {
    match answer {
        Some(Answer::Refused(refused)) => refused,
        taken => panic!("{what}: {taken:?}"),
    }
}

/// A node that says that it leads, and was not elected, could give each of the others another ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_elected_is_followed_by_nobody() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let tree = cosigned(&cluster).await;
    for to in liar.victims() {
        let good = batch(
            &cluster,
            &actors[0],
            SystemClock.now_us(),
            (tree.size().0, tree.root().as_bytes()),
        );
        let good = liar.fitting(to, good).await;
        let vote = good.vote.expect("a vote");
        let earlier = wire::Vote {
            term: vote.term - 1,
            ..vote
        };
        let own: Vec<wire::VoteGrant> = election(&cluster, &vote)
            .into_iter()
            .filter(|grant| grant.node_id == liar.node)
            .collect();
        for (shown, what) in [
            (Vec::new(), "nothing"),
            (own.clone(), "its own vote"),
            ([own.clone(), own].concat(), "its own vote, twice"),
            (election(&cluster, &earlier), "the votes of another term"),
        ] {
            let message = wire::AppendRequest {
                election: shown,
                ..good.clone()
            };
            let what = format!("node {to} follows a leader that shows {what}");
            let refused = refused(liar.append(to, message).await, &what);
            assert_eq!(refused.check(), wire::AppendCheck::Vote, "{refused:?}");
        }
        let size = cluster.must_status(to).await.tree_size;
        assert_eq!(size, tree.size().0, "node {to}");
    }
    goes_on(&mut cluster, &actors[0]).await;
}

/// Who is elected could make itself the only voter, or put nodes of its own in the others' places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_that_is_not_the_ledgers_is_refused_from_an_elected_leader() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let liar = Liar::among(&cluster).await;
    let size = cosigned(&cluster).await.size().0;
    let set = |node_ids: &[u64]| wire::VoterSet {
        node_ids: node_ids.to_vec(),
    };
    let peers: Vec<wire::Peer> = cluster
        .all_files()
        .map(|files| wire::Peer {
            node_id: files.id,
            address: files.peer.to_string(),
        })
        .collect();
    let stranger = wire::Peer {
        node_id: 1_000,
        address: "127.0.0.1:1".to_owned(),
    };
    let with_stranger = [peers.clone(), vec![stranger]].concat();
    let moved = peers.iter().map(|peer| wire::Peer {
        node_id: peer.node_id,
        address: "127.0.0.1:1".to_owned(),
    });
    let all = set(&[1, 2, 3]);
    let memberships = [
        (
            "the liar alone",
            vec![all.clone(), set(&[liar.node])],
            peers.clone(),
        ),
        ("the liar at once", vec![set(&[liar.node])], peers.clone()),
        (
            "a stranger that learns",
            vec![all.clone()],
            with_stranger.clone(),
        ),
        (
            "a stranger that votes",
            vec![all.clone(), set(&[1, 2, 3, 1_000])],
            with_stranger,
        ),
        ("other addresses", vec![all], moved.collect()),
    ];
    for to in liar.victims() {
        for (what, voters, peers) in &memberships {
            let membership = wire::Membership {
                voters: voters.clone(),
                peers: peers.clone(),
            };
            let payload = wire::log_entry::Payload::Membership(membership);
            let mut message = liar.fitting_entry(to, payload).await;
            // What it says is committed must be here already.
            message.committed = None;
            let answer = liar.append(to, message).await;
            let refused = refused(answer, &format!("node {to} takes a membership of {what}"));
            assert_eq!(
                refused.check(),
                wire::AppendCheck::Membership,
                "{refused:?}"
            );
        }
        assert_eq!(cluster.must_status(to).await.tree_size, size, "node {to}");
    }
    goes_on(&mut cluster, &actors[0]).await;
}

/// An entry names only its term: who leads later could pass a wrong batch off as the work of the leader before, which would then find itself
/// damaged and stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_later_leader_says_a_node_has_proposed_does_not_stop_that_node() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let liar = Liar::among(&cluster).await;
    let size = cosigned(&cluster).await.size().0;
    let wrong = batch(&cluster, &actors[0], SystemClock.now_us(), (size, &[0; 32]));
    let mut message = liar.fitting(leader, wrong).await;
    let id = wire::LogId {
        term: message.previous.expect("a log").term,
        ..message.committed.expect("an entry")
    };
    message.entries[0].log_id = Some(id);
    message.committed = Some(id);
    for to in liar.victims() {
        let answer = liar.append(to, message.clone()).await;
        assert!(
            matches!(answer, Some(Answer::Matched(_))),
            "node {to}: {answer:?}"
        );
    }
    goes_on(&mut cluster, &actors[0]).await;
    for node in cluster.nodes() {
        let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
        let names = format!("node {leader} has proposed a batch");
        assert!(!log.contains(&names), "node {node} blames the one before");
    }
}

/// Whoever answers each append with a later term could depose each leader as soon as it is elected, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_that_there_is_a_later_term_stops_no_decision() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 2).await;
    let id = cluster.follower().await;
    let mut honest = cluster.nodes();
    honest.retain(|node| *node != id);
    let liar = LyingNode::take_place(&mut cluster, id, &honest, &actors[1]).await;
    liar.answers_peers(PeerAnswers::LaterTerm, 0);
    cluster.leader_among(&honest).await;
    for _ in 0..10 {
        let _ = cluster.time_to_answer(&actors[0]).await;
    }
    cluster.must_be_alive();
}
