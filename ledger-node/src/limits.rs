//! What a node holds at most on behalf of others, in one place, so that all of it together can be seen to fit.
//!
//! A node may use 512 MiB. What an operator sets is in the configuration: the queue, the hot end of the log, the block cache and the
//! write buffers, 160 MiB by default. The rest is here; a test adds it up. On top come the program with its compiled rules, and what
//! strangers can hold open: an idle connection takes a few KiB, a call that has asked nothing yet up to 16 KiB.

/// The memory of a node.
pub const BUDGET: usize = 512 << 20;

/// Most connections of clients. One more is closed at once.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Most connections of peers.
pub const MAX_PEER_CONNECTIONS: usize = 256;

/// Most bytes of clients' messages that have begun to arrive and are not there yet: seven of the longest, or 96 that are as long as an
/// input may be. A message that comes in one piece takes none of it.
pub const MAX_ARRIVING: usize = 24 << 20;
/// Longest message between peers: a page of the log, with what frames it.
pub const MAX_PEER_MESSAGE: usize = 16 << 20;
/// The same of peers' messages: two of the longest. Who finds no room tries again.
pub const MAX_PEERS_ARRIVING: usize = 2 * MAX_PEER_MESSAGE;

/// Most connections on which trust steps are pushed to this node. Anybody can make them.
pub const MAX_TRUST_PUSHES: usize = 8;
/// Most steps on one of them.
pub const MAX_PUSHED_STEPS: usize = 8;
/// Longest of these steps in bytes: a change of members is an entry of 25 KiB at most, and what proves it takes some 5 KiB.
pub const MAX_PUSHED_STEP_LEN: usize = 32 << 10;
/// Most bytes that the steps of one connection take when they are decoded. One connection's are, at a time, and no step is kept whose
/// proof has more parts than a proof can have: decoded, one such step takes 24 times its length.
pub const DECODED_PUSH: usize =
    24 * MAX_PUSHED_STEP_LEN + 2 * MAX_PUSHED_STEPS * MAX_PUSHED_STEP_LEN;

/// Most bytes of commands whose callers wait on this node for their entries.
pub const MAX_WAITING: usize = 24 << 20;
/// How often such a command can be in memory: with its caller, and on its way to the leader. The leader's queue has a limit of its own.
pub const COPIES_WAITING: usize = 2;
/// Most equal calls that wait for one entry.
pub const MAX_EQUAL_CALLS: usize = 64;
/// Most commands of one author in the leader's queue.
pub const MAX_PER_AUTHOR: usize = 1_024;

/// Room for evidence that is made or sent: the making of the longest file, or four decisions' at a time, or a hundred short files
/// that nobody reads.
pub const EVIDENCE_ROOM: usize = 128 << 20;

/// Most followers.
pub const MAX_FOLLOWERS: usize = 64;
/// Most followers of one identity, so that one of them leaves places to others.
pub const MAX_FOLLOWERS_OF_ONE: usize = 16;
/// Most bytes of the entries of one response to a follower: two of the longest. Most entries are so short that 256 of them fit.
pub const MAX_FOLLOW_RESPONSE: usize = 128 << 10;
/// Responses that a follower holds while it does not read: one that is made, one that waits and one on its way.
pub const FOLLOW_RESPONSES: usize = 3;

/// Signed reads, open reads, and looks of followers that run at a time. Each may hold a page. Open reads have places of their own,
/// so that strangers cannot keep others from reading, and so have those who follow, because one of them can look without a pause at
/// thousands of entries that it may not read.
pub const READ_WORKERS: usize = 12;
/// See [`READ_WORKERS`].
pub const OPEN_READ_WORKERS: usize = 4;
/// See [`READ_WORKERS`].
pub const FOLLOW_WORKERS: usize = 4;

/// Most bytes of log entries that are prepared ahead of the applier, four of the longest batches. Past it the applier prepares for
/// itself.
pub const MAX_PREPARED_LEN: usize = 8 << 20;
/// Most bytes of log entries applied with one write.
pub const APPLY_LEN: usize = 8 << 20;
/// Most bytes of log entries read for one peer at a time, of the eight that there can be.
pub const LOG_READ_LEN: usize = 2 << 20;
/// Most other nodes.
pub const MAX_PEERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::front::paging::MAX_PAGE_BYTES;

    #[test]
    fn all_that_a_node_holds_for_others_fits_its_memory() {
        let set = config::tests::defaults();
        let configured =
            set.queue_bytes + set.log_tail_bytes + set.block_cache_bytes + set.write_buffer_bytes;
        let workers = READ_WORKERS + OPEN_READ_WORKERS + FOLLOW_WORKERS;
        let listed = configured
            + MAX_ARRIVING
            + MAX_PEERS_ARRIVING
            + MAX_TRUST_PUSHES * MAX_PUSHED_STEPS * MAX_PUSHED_STEP_LEN
            + DECODED_PUSH
            + MAX_WAITING * COPIES_WAITING
            + EVIDENCE_ROOM
            + MAX_FOLLOWERS * FOLLOW_RESPONSES * MAX_FOLLOW_RESPONSE
            + workers * MAX_PAGE_BYTES
            + MAX_PREPARED_LEN
            + APPLY_LEN
            + LOG_READ_LEN * MAX_PEERS;
        assert!(listed <= BUDGET, "{listed} bytes");
    }
}
