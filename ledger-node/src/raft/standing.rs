//! Who leads, as this node sees it, and whether this node may.

use openraft::ServerState;

use super::types::Types;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leading {
    /// This node, and it may propose.
    This,
    /// This node, while the ledger's time is ahead of a quorum's clocks: it may propose what adjusts the time, and nothing else.
    ThisAdjusting,
    /// Another node.
    Other {
        /// Its id.
        node_id: u64,
        /// host:port of its peer service.
        address: String,
    },
    /// Nobody that this node hears of; or this node, which may not, or which hears of no quorum.
    Nobody,
}

/// What this node may propose if it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mandate {
    /// Everything.
    Full,
    /// What adjusts the ledger's time, which is ahead of a quorum's clocks.
    AdjustTime,
    /// Nothing: its clock is off, or it shuts down.
    None,
}

/// Who leads, and in which term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub leading: Leading,
    /// Since which term.
    pub term: u64,
}

impl Standing {
    /// Before anything is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            leading: Leading::Nobody,
            term: 0,
        }
    }

    /// From what openraft reports, and what this node may propose. `in_touch` is false once the leader is silent, or if this node leads, too many voters are: openraft remembers a leader until there is
    /// another one, and a node that is cut off would name a dead one for ever.
    #[must_use]
    pub fn of(metrics: &openraft::RaftMetrics<Types>, mandate: Mandate, in_touch: bool) -> Self {
        let leading = match metrics.current_leader.filter(|_| in_touch) {
            Some(leader) if leader == metrics.id => match (metrics.state, mandate) {
                (ServerState::Leader, Mandate::Full) => Leading::This,
                (ServerState::Leader, Mandate::AdjustTime) => Leading::ThisAdjusting,
                (_, _) => Leading::Nobody,
            },
            Some(node_id) => {
                let members = metrics.membership_config.membership();
                match members.get_node(&node_id) {
                    Some(peer) => Leading::Other {
                        node_id,
                        address: peer.address.clone(),
                    },
                    None => Leading::Nobody,
                }
            }
            None => Leading::Nobody,
        };
        Self {
            leading,
            term: metrics.current_term,
        }
    }
}
