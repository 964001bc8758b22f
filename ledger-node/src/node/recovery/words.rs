//! What a node says while it asks, and when it does not run on its data: which disk is right is for people to find out.

use super::judge::{Directory, Refused, Waiting};
use crate::fatal::FIND_OUT;
use crate::raft::peer_memory::OTHER_STORE;

/// What a node waits for before it takes part.
pub(super) fn waits(directory: Directory, waiting: &Waiting) -> String {
    match waiting {
        Waiting::Answers => "this node asks the others what it has promised them".to_owned(),
        Waiting::Beginning => {
            "the ledger has not begun: this node waits for more than half of the nodes of the genesis to start".to_owned()
        }
        Waiting::Witnesses(missing) => {
            let what = match directory {
                Directory::New => "the data directory is new",
                Directory::Copied => "the data directory was copied since this node ran on it last",
                Directory::Continued => "another node has met another store under this id",
            };
            format!(
                "{what}: this node votes, acknowledges and cosigns nothing until enough of the nodes {missing:?} say what it has promised them; start those. If they are lost for good, and no newer disk of this node exists, start it with --accept-data"
            )
        }
        Waiting::OtherStore(by) => format!("nodes {by:?} have met this node with another store: {OTHER_STORE}"),
    }
}

/// Why a node does not run on its data.
pub(super) fn refused(why: &Refused) -> String {
    match why {
        Refused::Forgotten(forgotten) => format!(
            "{forgotten}. Either this disk is an older copy or has lost writes, or what that node holds is wrong; {FIND_OUT}. If a newer disk of this node exists, start it on that one; if this one is the older copy, let the node join under a new node id with a new key"
        ),
        Refused::Begun(by) => format!(
            "this data directory was made with `init --first`, and node {by} has begun the ledger already. If this node has never run, make its directory again without --first; if it has, look for the disk that it ran on, and start it on that one"
        ),
        Refused::Alone => "the data directory was copied since this node ran on it last, and there is no other node that could say whether it has forgotten anything. If no newer disk of this node exists, start it once with --accept-data; clients that remember a larger tree will refuse it".to_owned(),
    }
}
