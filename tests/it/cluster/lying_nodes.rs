//! Nodes that lie, among honest ones: whatever they say, no client believes a yes that the ledger does not have, no honest node
//! stops, and nothing that was proven is lost. `make liars` is the long form.

use countersign_tests::cluster::lying_node::Met;
use countersign_tests::cluster::lying_node::stage::Play;

/// Pinned, so that a change that breaks something breaks it for everybody.
const SEED: u64 = 2;

async fn play(nodes: u64, liars: u64, steps: usize, seed: u64) {
    println!("{liars} of {nodes} nodes lie, seed {seed}");
    let play = Play {
        nodes,
        liars,
        steps,
        seed,
    };
    let report = play.run().await;
    println!("{report}");
    assert!(
        report.yeses > 0,
        "honest clients got some answers: {report}"
    );
    assert!(report.acknowledged > 0, "some were proven: {report}");
    let heard = report
        .met
        .values()
        .any(|met| met.contains_key(&Met::Answered));
    assert!(heard, "honest nodes listened to the liars: {report}");
    let elected = report.met.contains_key("Wins an election");
    assert!(elected, "a liar led for a while: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_three_that_lies_fools_nobody() {
    play(3, 1, 120, SEED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_five_that_lie_fool_nobody() {
    play(5, 2, 60, SEED).await;
}
