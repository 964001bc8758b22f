//! How a client asks: whom, for how long, and what it takes for a yes.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_proto::v1;

use crate::answer::Level;

/// How a client asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The nodes, such as `http://127.0.0.1:7401`; one is enough, all are better.
    pub endpoints: Vec<String>,
    /// How long a call may take, elections and retries included.
    pub timeout: Duration,
    /// What receipts should be worth when they come. With [`Level::Cosigned`], the default, a decision that only one node
    /// vouches for is not a yes. With [`Level::Committed`] it is: one node can then give a yes that no quorum knows of, if it
    /// is ready to be found out.
    pub level: Level,
    /// Types of critical conditions that the caller fulfils. A decision under any other is not a yes.
    pub known_conditions: BTreeSet<String>,
}

impl Settings {
    /// The critical condition of a decision that the caller does not know, if there is one.
    pub(crate) fn unknown_condition(&self, decision: &v1::Decision) -> Option<String> {
        let known = &self.known_conditions;
        let mut conditions = decision.conditions.iter();
        let unknown = conditions.find(|one| one.critical && !known.contains(&one.r#type));
        unknown.map(|condition| condition.r#type.clone())
    }

    /// Ten seconds, cosigned receipts, no conditions known.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            timeout: Duration::from_secs(10),
            level: Level::Cosigned,
            known_conditions: BTreeSet::new(),
        }
    }
}
