//! What passes while the ledger's time is ahead of clocks, and after admins have adjusted it.

use super::*;

/// A submission that nobody has signed: whether admins have, the machine sees.
fn adjustment(made_at_us: u64) -> v1::Submission {
    let command = v1::Command {
        request_id: vec![1; 16],
        issued_at_us: made_at_us,
        author: Some(v1::Identity {
            kind: v1::IdentityKind::Operator.into(),
            id: "root".to_owned(),
        }),
        body: Some(v1::command::Body::AdjustTime(v1::AdjustTime {
            tree_size: 10,
            last_entry_time_us: NOW + 90_000 * SECOND,
        })),
        ..v1::Command::default()
    };
    v1::Submission {
        signed: Some(v1::SignedCommand {
            command: command.encode_to_vec(),
            signatures: Vec::new(),
        }),
        compartments: Vec::new(),
    }
}

fn adjusting(time_us: u64, submissions: Vec<v1::Submission>) -> wire::AppendRequest {
    let mut batch = BatchBuilder::new(time_us, 10, root(7).as_bytes());
    for submission in submissions {
        batch.push(submission).unwrap();
    }
    let bytes = batch.finish().encode_to_vec();
    let entry = wire::LogEntry {
        log_id: Some(wire::LogId { term: 5, index: 9 }),
        payload: Some(wire::log_entry::Payload::Batch(bytes.into())),
    };
    append(5, Some((5, 8)), vec![entry])
}

#[test]
fn while_the_ledger_is_ahead_only_what_adjusts_its_time_passes() {
    let ahead = |message| passes_at(message, NOW + 90_000 * SECOND, 0);
    let refused = |message| ahead(message).expect_err("refused").check;
    // Dated as the ledger is, with and without an adjustment; and dated as clocks are.
    let dated_ahead = append(5, Some((5, 8)), vec![batch(5, 9, NOW + 90_001 * SECOND, 7)]);
    assert_eq!(refused(dated_ahead), Check::Time);
    let both = adjusting(NOW + 90_001 * SECOND, vec![adjustment(NOW)]);
    assert_eq!(refused(both), Check::Time);
    let dated_now = append(5, Some((5, 8)), vec![batch(5, 9, NOW, 7)]);
    assert_eq!(refused(dated_now), Check::Time);
    // An adjustment, and nothing beside it.
    assert!(ahead(adjusting(NOW, vec![adjustment(NOW - SECOND)])).is_ok());
    let mixed = vec![adjustment(NOW), v1::Submission::default()];
    assert_eq!(refused(adjusting(NOW, mixed)), Check::Time);
    // One that would lead to another offset than clocks show, too large or too small.
    for made_at in [NOW - 301 * SECOND, 0, NOW + 3 * SECOND] {
        let found = ahead(adjusting(NOW, vec![adjustment(made_at)])).unwrap_err();
        assert_eq!(found.check, Check::Time, "{made_at}");
        assert!(found.reason.contains("another offset"), "{found}");
    }
    // It opens the way for nothing that comes after it, until it is applied.
    let mut two = adjusting(NOW, vec![adjustment(NOW)]);
    two.entries.push(batch(5, 10, NOW, 7));
    let found = ahead(two).unwrap_err();
    assert_eq!((found.check, found.log_index), (Check::Time, 10));
}

/// An adjustment was held back until the end that it names came to be the end of a sound ledger.
#[test]
fn an_adjustment_that_was_held_back_passes_in_no_batch() {
    let held = || adjustment(NOW - 301 * SECOND);
    for beside in [Vec::new(), vec![v1::Submission::default()]] {
        let message = adjusting(NOW, [vec![held()], beside].concat());
        let found = passes(message).expect_err("refused");
        assert_eq!(found.check, Check::Time);
        assert!(found.reason.contains("another offset"), "{found}");
    }
    // Dated back to when it was signed.
    let dated_back = |by_us: u64, latest_us: u64| {
        let message = adjusting(NOW - by_us, vec![adjustment(NOW - by_us)]);
        passes_at(message, latest_us, 0)
    };
    for (by_us, latest_us) in [
        (301 * SECOND, NOW),
        (301 * SECOND, NOW + MAX_AHEAD_US),
        (MAX_BACK_US + 1, NOW - SECOND),
    ] {
        let found = dated_back(by_us, latest_us).expect_err("refused");
        assert_eq!(found.check, Check::Time);
        assert!(found.reason.contains("is not ahead"), "{found}");
    }
    // By this node's clock the ledger is ahead still, or the batch is of now.
    assert!(dated_back(301 * SECOND, NOW + MAX_AHEAD_US + 1).is_ok());
    assert!(dated_back(MAX_BACK_US, NOW).is_ok());
}

#[test]
fn once_the_ledgers_time_is_adjusted_batches_carry_what_clocks_show() {
    let offset = 90_000 * SECOND;
    let adjusted = |time_us: u64| {
        let message = append(5, Some((5, 8)), vec![batch(5, 9, time_us, 7)]);
        passes_at(message, NOW - SECOND + offset, offset)
    };
    assert_eq!(adjusted(NOW), Ok(NOW + offset));
    for time_us in [
        NOW + MAX_AHEAD_US + 1,
        NOW + offset,
        NOW - SECOND - MAX_BACK_US - 1,
    ] {
        assert_eq!(adjusted(time_us).unwrap_err().check, Check::Time);
    }
}
