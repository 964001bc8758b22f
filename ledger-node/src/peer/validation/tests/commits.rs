//! What a leader says is committed.

use super::*;

#[test]
fn only_an_entry_that_is_in_the_log_or_comes_is_committed_on_a_leaders_word() {
    let says = |term, previous, entries, (of, index)| {
        let mut message = append(term, previous, entries);
        message.committed = Some(wire::LogId { term: of, index });
        taken(message)
    };
    let entries = || vec![batch(6, 9, NOW, 7), batch(6, 10, NOW, 7)];
    let end = Some((5, 8));
    for (said, takes) in [
        ((5, 7), Ok(Some(id(5, 7)))),
        ((5, 8), Ok(Some(id(5, 8)))),
        ((6, 9), Ok(Some(id(6, 9)))),
        ((6, 10), Ok(Some(id(6, 10)))),
        // More is committed than has come.
        ((6, 12), Ok(Some(id(6, 10)))),
        // The log id is of no entry.
        ((5, 9), Err(Check::LogId)),
        ((5, 10), Err(Check::LogId)),
        ((5, 12), Err(Check::LogId)),
        ((6, 7), Err(Check::LogId)),
        ((4, 7), Ok(None)),
    ] {
        assert_eq!(says(6, end, entries(), said), takes, "{said:?}");
    }
    // A heartbeat of a leader that does not know yet how far the log fits.
    assert_eq!(says(6, None, vec![], (5, 8)), Ok(Some(id(5, 8))));
    assert_eq!(says(6, None, vec![], (5, 9)), Ok(None));
    assert_eq!(says(6, None, vec![], (4, 8)), Ok(None));
    // The log does not fit, and goes back.
    assert_eq!(says(6, Some((6, 7)), vec![], (6, 7)), Ok(None));
    assert_eq!(says(6, Some((5, 12)), vec![], (5, 8)), Ok(Some(id(5, 8))));
    let other = vec![batch(6, 8, NOW, 7)];
    assert_eq!(says(6, Some((6, 7)), other, (6, 8)), Ok(None));
    // This node does not follow the leader any more.
    assert_eq!(says(4, None, vec![], (3, 4)), Ok(None));
}
