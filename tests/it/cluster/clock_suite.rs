//! A few cases of the clock suite; `make clocks` has all of them.

use countersign_tests::cluster::clock_suite::case::{Crash, Event, Group, Offset};
use countersign_tests::cluster::clock_suite::{ClockCase, Flow};

/// The first case of the covering ones that is like this.
fn case(is_it: impl Fn(&ClockCase) -> bool) -> ClockCase {
    let cases = ClockCase::covering();
    cases.into_iter().find(is_it).expect("there is such a case")
}

async fn must_hold(case: ClockCase) -> Vec<Flow> {
    let report = case.run().await;
    println!("{report}");
    assert_eq!(report.findings, Vec::<String>::new(), "{report}");
    assert!(report.judged > 10, "{report}");
    report.flows.into_iter().map(|(_, flow)| flow).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_clock_of_three_and_a_crash_of_both_others() {
    let flows = must_hold(case(|case| {
        case.group == Group::OneOfThree
            && case.roles.crash == Crash::AllSound
            && case.offset == Offset::Seconds(90_000)
            && case.order.len() == 3
    }))
    .await;
    assert!(
        flows.contains(&Flow::Closed),
        "nobody decides alone: {flows:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_clock_of_three_that_comes_back_from_1970() {
    must_hold(case(|case| {
        case.group == Group::OneOfThree
            && case.offset == Offset::In1970
            && case.order.starts_with(&[Event::Crash, Event::Fault])
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wrong_clocks_of_three_that_do_not_agree() {
    must_hold(case(|case| {
        case.group == Group::TwoOfThreeApart
            && case.offset == Offset::Seconds(400)
            && case.order.starts_with(&[Event::Fault, Event::Crash])
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wrong_clocks_of_five_and_a_crash_of_a_sound_leader() {
    must_hold(case(|case| {
        case.group == Group::TwoOfFiveAlike
            && case.roles.crash == Crash::Sound
            && case.offset == Offset::Seconds(-100)
    }))
    .await;
}
