//! Peers against a running node: every frame of bytes is a message of a member, or of a stranger, and all of them are said to a
//! replica with real Raft over the real peer port. None may end it, none may make it take back what it promised, and after all of them
//! it follows a sound leader.

mod appends;
mod base;
mod node;
mod panics;
mod promises;
mod script;
mod speech;

use base::base;
use node::FuzzedNode;
use promises::Promises;
use script::{FRAME, MAX_MESSAGES};
use speech::Speech;

/// Says what the bytes say to a node that is at the same place of its life each time.
///
/// # Panics
/// If the node ends, hangs, takes back a promise, or cannot go on.
pub fn target_peer(data: &[u8]) {
    panics::count();
    let (mut node, mut promises) = base().node();
    for frame in data.chunks(FRAME).take(MAX_MESSAGES) {
        Speech::new(&node, frame).say(&mut promises);
        node.must_run();
    }
    goes_on(&mut node, &mut promises);
    node.end();
}

/// A sound leader of a later term is followed.
fn goes_on(node: &mut FuzzedNode, promises: &mut Promises) {
    assert!(node.is_served(), "clients are not served any more");
    base::lead_on(node);
    node.must_run();
    promises.must_hold(node, false);
}

/// What fuzzing begins with.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    script::seeds()
}
