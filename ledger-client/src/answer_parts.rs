//! Answers in parts: whoever sends them cannot keep a caller waiting by sending nothing, or parts without anything in them.

use std::time::Instant;

use tonic::Streaming;

use crate::error::Error;
use crate::printable::printable;

/// The next part of an answer, which must come before the deadline; none at the end.
///
/// # Errors
/// [`Error::Unavailable`] if the answer breaks off or the deadline passes; `what` says what it is of, as in "the evidence".
pub(crate) async fn next_part<A>(
    parts: &mut Streaming<A>,
    deadline: Instant,
    what: &str,
) -> Result<Option<A>, Error> {
    let broken = |why: &str| Error::Unavailable(format!("{what} broke off: {why}"));
    // A part that is there already would come whatever the time is.
    if Instant::now() >= deadline {
        return Err(broken(LATE));
    }
    match tokio::time::timeout_at(deadline.into(), parts.message()).await {
        Ok(part) => part.map_err(|status| broken(&printable(status.message()))),
        Err(_) => Err(broken(LATE)),
    }
}

/// Why an answer that goes on for too long is given up.
const LATE: &str = "it went on for longer than --timeout allows";
