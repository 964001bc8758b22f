//! The long form of `tests/it/cluster/clock_suite.rs`: wrong clocks, crashes and repairs in every order. `clocks` runs the cases in
//! which each pair of circumstances meets, `clocks --every` all of them, `clocks --case N` one. `--from N` and `--count N` choose a
//! piece of the list. Prints a line for each case and a table of verdicts, and fails if a promise was broken.

#![expect(
    clippy::print_stdout,
    reason = "a program whose findings are its output"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use countersign_tests::cluster::clock_suite::ClockCase;
use countersign_tests::cluster::suite::{Pieces, outcome};

#[tokio::main]
async fn main() -> ExitCode {
    let pieces = Pieces::of_arguments("clocks");
    let every = || (0..ClockCase::COUNT).filter_map(ClockCase::of).collect();
    let cases: Vec<ClockCase> = if let Some(number) = pieces.case {
        ClockCase::of(number).into_iter().collect()
    } else if pieces.every {
        pieces.choose(every())
    } else {
        pieces.choose(ClockCase::covering())
    };
    let mut table: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    let (mut longest, mut broken, begin) = (Duration::ZERO, 0, Instant::now());
    for (at, case) in cases.iter().enumerate() {
        let started = Instant::now();
        let report = outcome(case.run()).await;
        let verdict = match &report {
            Ok(report) => {
                longest = longest.max(report.longest());
                report.verdict()
            }
            Err(_) => "BROKEN",
        };
        broken += usize::from(verdict == "BROKEN");
        let row = table.entry(format!("{:?}", case.group)).or_default();
        *row.entry(verdict).or_default() += 1;
        let (done, of, took) = (at + 1, cases.len(), started.elapsed().as_secs());
        match report {
            Ok(report) => println!("[{done}/{of}, {took} s] {report}"),
            Err(words) => println!("[{done}/{of}, {took} s] {case}: BROKEN\n    FINDING: {words}"),
        }
    }
    for (group, verdicts) in table {
        println!("{group}: {verdicts:?}");
    }
    println!(
        "{} cases in {:?}, {broken} broken; decisions were away for at most {longest:?} while they had to flow",
        cases.len(),
        begin.elapsed()
    );
    ExitCode::from(u8::from(broken > 0))
}
