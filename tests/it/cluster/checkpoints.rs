//! Cosigned checkpoints reach every node, whatever it missed: each node must be able to prove alone what the ledger holds.

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};
use ledger_proto::v1;

use super::membership::{is_made_leader, join};

/// Asks running nodes in turn until one decides, and gives the index of the decision.
async fn decides(cluster: &Cluster, actor: &Actor, number: u64) -> String {
    let submission = cluster.signing.command(question(actor, number));
    let mut nodes = cluster.nodes().into_iter().cycle();
    let answer = until("a question is answered", RECOVERY, async || {
        let node = nodes.next().expect("a node runs");
        ask(cluster.line(node), &submission).await.ok()
    });
    answer.await.index().to_string()
}

/// How many changes of the trust policy a node can prove, from the genesis on.
async fn provable_steps(cluster: &Cluster, node: u64) -> Option<usize> {
    const PATH: &str = "/countersign.v1.LedgerService/ListTrustSteps";
    let request = tonic::Request::new(v1::ListTrustStepsRequest::default());
    let answer = cluster.line(node).call(PATH, request, SOON);
    let answer: v1::ListTrustStepsResponse = answer.await.ok()?;
    Some(answer.trust_steps.len())
}

async fn can_prove(cluster: &Cluster, nodes: &[u64], steps: usize) {
    for node in nodes {
        let what = format!("node {node} can prove {steps} changes of the trust policy");
        until(&what, RECOVERY, async || {
            let there = provable_steps(cluster, *node).await?;
            (there == steps).then_some(())
        })
        .await;
    }
}

/// All nodes but one are replaced while it is down. No later checkpoint meets the first policies any more, and those that
/// carried the changes were sent to everybody else long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_gets_the_trust_steps_that_it_missed() {
    let options = Options {
        spare: 2,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    let away = cluster.follower().await;
    let old: Vec<u64> = (1..=3).filter(|node| *node != away).collect();
    let first = decides(&cluster, &actors[0], 0).await;
    cluster.kill(away);

    join(&mut cluster, 4).await;
    join(&mut cluster, 5).await;
    cluster.change_members(&[1, 2, 3, 4, 5]).await;
    can_prove(&cluster, &[old[0], old[1], 4, 5], 1).await;
    let mut members = vec![away, 4, 5];
    members.sort_unstable();
    cluster.change_members(&members).await;
    cluster.leader_among(&[4, 5]).await;
    can_prove(&cluster, &[4, 5], 2).await;
    for node in old {
        cluster.kill(node);
    }
    let last = decides(&cluster, &actors[0], 1).await;

    cluster.restart(away);
    can_prove(&cluster, &[away], 2).await;
    let cli = Cli::of_admin(&cluster);
    let endpoint = cluster.endpoint(away);
    for index in [&first, &last] {
        cli.must(&["prove", index, "--out", index, "--endpoints", &endpoint]);
        cli.must(&["verify", index, "--trust", "trust-policy"]);
    }
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// The leader is no node of the genesis, and a new node knows nobody else. Nothing but the cosigned changes tells it whom to believe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_learns_from_cosigned_changes_who_leads() {
    let options = Options {
        spare: 2,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    join(&mut cluster, 4).await;
    cluster.change_members(&[1, 2, 3, 4]).await;
    is_made_leader(&cluster, 4).await;
    join(&mut cluster, 5).await;
    cluster.change_members(&[2, 3, 4, 5]).await;
    cluster.kill(1);
    cluster.is_whole().await;
    let log = std::fs::read_to_string(cluster.file(5).log()).expect("a log");
    assert!(log.contains("the members of now were learned"), "{log}");
    let _ = decides(&cluster, &actors[0], 1).await;
    cluster.must_keep_promises().await;
}
