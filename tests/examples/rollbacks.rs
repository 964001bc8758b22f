//! The long form of `tests/it/cluster/rollback_suite.rs`: the disk of one node goes back in time, by a copy of its folder, also laid over
//! the files of the same run, the clone of
//! an image, or `init`, while others crash in every order. `rollbacks` runs 324 cases drawn from a seed, `--every` all of them, `--case N`
//! one; `--seed N` draws others, `--from N` and `--count N` choose a piece. Prints what became of each case and a table of verdicts, and
//! fails if a promise was broken.

#![expect(
    clippy::print_stdout,
    reason = "a program whose findings are its output"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use countersign_tests::cluster::rollback_suite::{RollbackCase, can_mount};
use countersign_tests::cluster::suite::{Pieces, outcome};

#[tokio::main]
async fn main() -> ExitCode {
    let pieces = Pieces::of_arguments("rollbacks");
    let mut cases: Vec<RollbackCase> = if let Some(number) = pieces.case {
        RollbackCase::of(number).into_iter().collect()
    } else if pieces.every {
        pieces.choose(
            (0..RollbackCase::COUNT)
                .filter_map(RollbackCase::of)
                .collect(),
        )
    } else {
        pieces.choose(RollbackCase::drawn(pieces.seed))
    };
    if !can_mount() {
        println!(
            "images cannot be mounted here, which takes root and loop devices: instead of a clone in place a copy gets a marker that agrees with it, and instead of one on another device the folder is copied"
        );
        for case in &mut cases {
            case.method = case.method.without_images();
        }
    }
    let mut table: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    let (mut broken, begin) = (0, Instant::now());
    for (at, case) in cases.iter().enumerate() {
        let started = Instant::now();
        let report = outcome(case.run()).await;
        let verdict = report.as_ref().map_or("BROKEN", |report| report.verdict());
        broken += usize::from(verdict == "BROKEN");
        let row = table.entry(format!("{:?}", case.method)).or_default();
        *row.entry(verdict).or_default() += 1;
        let (done, of, took) = (at + 1, cases.len(), started.elapsed().as_secs());
        match report {
            Ok(report) => println!("[{done}/{of}, {took} s] {report}"),
            Err(words) => println!("[{done}/{of}, {took} s] {case}: BROKEN\n    FINDING: {words}"),
        }
    }
    for (method, verdicts) in table {
        println!("{method}: {verdicts:?}");
    }
    println!(
        "{} cases of seed {} in {:?}, {broken} broken",
        cases.len(),
        pieces.seed,
        begin.elapsed()
    );
    ExitCode::from(u8::from(broken > 0))
}
