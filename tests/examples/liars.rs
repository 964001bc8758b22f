//! The long form of `tests/it/cluster/lying_nodes.rs`: `liars STEPS [SEED [LIARS]]` has so many nodes lie for so many steps: one
//! of three, two of five, or both after each other. Prints the seed and what the lies met, and fails if an honest node or client was fooled.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a program whose findings are its output, and which fails by panicking"
)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use countersign_tests::cluster::lying_node::stage::Play;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let steps = arguments.next().and_then(|steps| steps.parse().ok());
    let Some(steps) = steps else {
        panic!("usage: liars STEPS [SEED [LIARS]]");
    };
    let seed = arguments.next().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let only: Option<u64> = arguments.next().and_then(|liars| liars.parse().ok());
    for (nodes, liars) in [(3, 1), (5, 2)] {
        if only.is_some_and(|only| only != liars) {
            continue;
        }
        println!("{liars} of {nodes} nodes lie for {steps} steps of seed {seed}");
        let begin = Instant::now();
        let play = Play {
            nodes,
            liars,
            steps,
            seed,
        };
        let report = play.run().await;
        println!("{:?}: {report}", begin.elapsed());
    }
}
