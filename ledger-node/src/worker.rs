//! The threads and tasks that a node cannot do without, and fault injection for tests: the end of one of them while the node runs, at a moment
//! that the test chooses. A build without debug assertions has no faults to inject.

/// A thread or task that must not end in silence while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// The thread that applies committed entries.
    Applier,
    /// A thread that prepares entries.
    Preparer,
    /// The thread that makes receipts.
    Answerer,
    /// The thread that syncs the store.
    Flusher,
    /// A task of openraft's that speaks to a peer.
    RaftConnection,
    /// The task of openraft's that hands committed entries on.
    RaftMachine,
    /// A task that brings one proposal into the log.
    Proposal,
    /// The task that asks the others what this node has promised.
    Recovery,
    /// The task that answers health checks.
    Health,
    /// The task that follows openraft's reports.
    Reports,
    /// The task that fills batches.
    Proposer,
    /// The task that collects cosignatures.
    Cosigner,
    /// The task that erases content.
    Eraser,
    /// The task that reads the store for damage.
    Patrol,
    /// The task that attests the state.
    Attester,
    /// The task that compares clocks.
    Timekeeper,
    /// The task that follows the trust policy.
    TrustFollower,
    /// The task that pushes changes of the trust policy.
    PushSender,
    /// The task that keeps the directory of keys.
    Directory,
    /// The task that saves and tidies up.
    Keeper,
    /// The server for clients.
    ClientServer,
    /// The server for peers.
    PeerServer,
}

impl Worker {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Applier,
        Self::Preparer,
        Self::Answerer,
        Self::Flusher,
        Self::RaftConnection,
        Self::RaftMachine,
        Self::Proposal,
        Self::Recovery,
        Self::Health,
        Self::Reports,
        Self::Proposer,
        Self::Cosigner,
        Self::Eraser,
        Self::Patrol,
        Self::Attester,
        Self::Timekeeper,
        Self::TrustFollower,
        Self::PushSender,
        Self::Directory,
        Self::Keeper,
        Self::ClientServer,
        Self::PeerServer,
    ];

    /// What it is called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applier => "the thread that applies",
            Self::Preparer => "a thread that prepares entries",
            Self::Answerer => "the thread that answers callers",
            Self::Flusher => "the thread that syncs",
            Self::RaftConnection => "a task of raft that speaks to a peer",
            Self::RaftMachine => "what applies for raft",
            Self::Proposal => "the task of a proposal",
            Self::Recovery => "the recovery",
            Self::Health => "the task that says how the node is",
            Self::Reports => "the task that says who leads",
            Self::Proposer => "the proposer",
            Self::Cosigner => "the cosigner",
            Self::Eraser => "the eraser",
            Self::Patrol => "the patrol",
            Self::Attester => "the attester",
            Self::Timekeeper => "the timekeeper",
            Self::TrustFollower => "the follower of the trust policy",
            Self::PushSender => "the sender of trust steps",
            Self::Directory => "the keeper of the directory",
            Self::Keeper => "the keeper",
            Self::ClientServer => "the server for clients",
            Self::PeerServer => "the server for peers",
        }
    }
}

/// Panics if a test wants this worker to. Called where the worker takes up its next piece of work.
pub(crate) fn strike(worker: Worker) {
    if wanted(worker) == Some(Fault::Panic) {
        panic_for(worker);
    }
}

/// Returns, or panics, when a test wants this worker to end.
pub(crate) async fn strikes(worker: Worker) {
    if !is_armed() {
        return std::future::pending().await;
    }
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        match wanted(worker) {
            Some(Fault::End) => return,
            Some(Fault::Panic) => panic_for(worker),
            None => {}
        }
    }
}

/// Between two looks at what a test wants.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// How a worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    End,
    Panic,
}

#[expect(clippy::panic, reason = "a test asked for it")]
fn panic_for(worker: Worker) -> ! {
    panic!("a test ends {}", worker.name())
}

#[cfg(debug_assertions)]
use armed::{is_armed, wanted};

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    use super::{Fault, Worker};

    /// The file that says what a test wants: `end NAME` or `panic NAME`. It need not exist.
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("COUNTERSIGN_FAULT_FILE").map(PathBuf::from));

    pub(super) fn is_armed() -> bool {
        FILE.is_some()
    }

    pub(super) fn wanted(worker: Worker) -> Option<Fault> {
        let text = std::fs::read_to_string(FILE.as_ref()?).ok()?;
        let (how, name) = text.split_once(' ')?;
        let fault = match how {
            "end" => Fault::End,
            "panic" => Fault::Panic,
            _ => return None,
        };
        (name == worker.name()).then_some(fault)
    }
}

#[cfg(not(debug_assertions))]
const fn is_armed() -> bool {
    false
}

#[cfg(not(debug_assertions))]
const fn wanted(_: Worker) -> Option<Fault> {
    None
}
