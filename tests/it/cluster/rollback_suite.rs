//! A few cases of the rollback suite, without images of file systems, which take rights to mount; `make rollbacks` has the others.

use countersign_tests::cluster::overlay::OverlayTool;
use countersign_tests::cluster::rollback_suite::case::{MarkerPlace, Method, Schedule};
use countersign_tests::cluster::rollback_suite::{Met, RollbackCase, RollbackReport};

async fn must_hold(case: RollbackCase) -> RollbackReport {
    let report = case.run().await;
    println!("{report}");
    assert_eq!(report.findings, Vec::<String>::new(), "{report}");
    report
}

const fn case(method: Method, schedule: Schedule, leads: bool, number: usize) -> RollbackCase {
    RollbackCase {
        number,
        method,
        schedule,
        leads,
        witness: false,
        marker: MarkerPlace::WithData,
    }
}

/// The node waited for the others, and was refused once one of them knew more.
fn must_wait_and_be_refused(report: &RollbackReport) {
    assert!(
        matches!(report.met.first(), Some(Met::Waits(_))),
        "{report}"
    );
    assert!(
        matches!(report.met.last(), Some(Met::Ended(65, _))),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_hides_behind_two_crashes_waits_and_is_refused() {
    let hides = Schedule::OtherBeforeTruthBetween;
    let report = must_hold(case(Method::Copy, hides, true, 1)).await;
    must_wait_and_be_refused(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_over_newer_files_is_refused_unless_it_forgets_nothing() {
    let report = must_hold(case(Method::CopyOver, Schedule::Transfer, false, 4)).await;
    assert!(!report.took_part() || report.forgot_nothing(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_over_the_files_of_its_own_run_hides_behind_two_crashes_and_waits() {
    let hides = Schedule::OtherBetweenTruthBetween;
    let over_run = Method::OverRun(OverlayTool::Rsync);
    let report = must_hold(case(over_run, hides, true, 1)).await;
    must_wait_and_be_refused(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_place_is_refused_by_a_marker_that_did_not_go_back() {
    let in_place = RollbackCase {
        marker: MarkerPlace::OtherVolume,
        ..case(
            Method::ForgedInPlace,
            Schedule::OtherBetweenTruthBetween,
            false,
            8,
        )
    };
    let report = must_hold(in_place).await;
    assert!(
        matches!(report.met.first(), Some(Met::Ended(65, _))),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_place_that_nobody_can_notice_gets_no_second_tree_past_a_witness() {
    let in_place = RollbackCase {
        witness: true,
        ..case(
            Method::ForgedInPlace,
            Schedule::OtherBetweenTruthBetween,
            true,
            11,
        )
    };
    let report = must_hold(in_place).await;
    assert!(report.decided, "two nodes decide provisionally: {report}");
    assert!(report.found_out.is_some(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_made_anew_begins_nothing_with_a_node_that_was_away() {
    let hides = Schedule::OtherBetweenTruthBetween;
    let report = must_hold(case(Method::InitFirst, hides, true, 0)).await;
    assert!(matches!(report.met.last(), Some(Met::Waits(_))), "{report}");
}
