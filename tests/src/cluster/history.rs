//! What happened, as callers saw it: every call with its beginning, its end and its answer, for the invariants to judge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ledger_core::hash::{Hash, LeafIndex, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_proto::v1;

/// Nanoseconds since the history began, by a clock that never goes back.
pub type Moment = u64;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which node gave it.
    pub node: u64,
    /// The receipt.
    pub receipt: v1::Receipt,
    /// Whether it was said to be of an earlier call.
    pub replayed: bool,
}

impl Answer {
    /// The leaf index.
    ///
    /// # Panics
    /// If the receipt holds no entry.
    #[must_use]
    pub fn index(&self) -> LeafIndex {
        LeafIndex(self.proven().index)
    }

    /// The entry's bytes.
    ///
    /// # Panics
    /// If the receipt holds no entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.proven().entry
    }

    fn proven(&self) -> &v1::ProvenEntry {
        self.receipt.entry.as_ref().expect("a receipt has an entry")
    }
}

/// One command, sent until it was answered: to several nodes if need be, always the same bytes.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request id.
    pub request_id: Vec<u8>,
    /// When it was first sent.
    pub start: Moment,
    /// When the attempt that was answered was sent.
    pub last_start: Moment,
    /// When the answer was there, or when the writer gave up.
    pub end: Moment,
    /// How many attempts failed before.
    pub failures: u32,
    /// The first answer; none if it is not known what became of it.
    pub answer: Option<Answer>,
    /// Answers to the same bytes, sent again after the first answer.
    pub again: Vec<Answer>,
}

/// A time during which a node could not reach a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    /// Which node.
    pub node: u64,
    /// Since when.
    pub from: Moment,
    /// Until when.
    pub until: Moment,
}

/// A checkpoint that was seen, and on which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who showed it.
    pub node: u64,
    /// When.
    pub at: Moment,
    /// The size of the tree.
    pub size: TreeSize,
    /// Its root.
    pub root: Hash,
}

impl Seen {
    /// Reads a signed note. Whether its signatures hold is not looked at.
    ///
    /// # Panics
    /// If it is not a checkpoint.
    #[must_use]
    pub fn of_note(node: u64, at: Moment, note: &str) -> Self {
        let note = Note::parse(note.as_bytes()).expect("a checkpoint is a signed note");
        let checkpoint = Checkpoint::parse(note.text()).expect("the note is a checkpoint");
        Self {
            node,
            at,
            size: checkpoint.size(),
            root: checkpoint.root(),
        }
    }
}

/// Everything that callers saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Calls, in the order of their ends.
    pub calls: Vec<Call>,
    /// When nodes were cut off.
    pub isolations: Vec<Isolation>,
    /// Checkpoints seen other than in receipts.
    pub checkpoints: Vec<Seen>,
}

impl History {
    /// Calls with an answer, with it.
    pub fn answered(&self) -> impl Iterator<Item = (&Call, &Answer)> {
        self.calls
            .iter()
            .filter_map(|call| call.answer.as_ref().map(|answer| (call, answer)))
    }

    /// Every answer, to repeated calls too.
    pub fn answers(&self) -> impl Iterator<Item = (&Call, &Answer)> {
        self.calls.iter().flat_map(|call| {
            let answers = call.answer.iter().chain(&call.again);
            answers.map(move |answer| (call, answer))
        })
    }

    /// Every checkpoint that anybody saw.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let mut seen = self.checkpoints.clone();
        for (call, answer) in self.answers() {
            let note = &answer.receipt.checkpoint;
            seen.push(Seen::of_note(answer.node, call.end, note));
        }
        seen
    }
}

/// Where histories are written, by many at once.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            history: Arc::default(),
        }
    }
}

impl Recorder {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        u64::try_from(self.began.elapsed().as_nanos()).expect("no test takes 584 years")
    }

    /// Adds something.
    ///
    /// # Panics
    /// If another writer panicked while it wrote.
    pub fn write(&self, add: impl FnOnce(&mut History)) {
        add(&mut self
            .history
            .lock()
            .expect("no writer panics while it writes"));
    }

    /// What was written so far.
    ///
    /// # Panics
    /// If a writer panicked while it wrote.
    #[must_use]
    pub fn history(&self) -> History {
        self.history
            .lock()
            .expect("no writer panics while it writes")
            .clone()
    }

    /// How many calls were answered so far.
    ///
    /// # Panics
    /// If a writer panicked while it wrote.
    #[must_use]
    pub fn answered(&self) -> usize {
        let history = self
            .history
            .lock()
            .expect("no writer panics while it writes");
        history.answered().count()
    }
}

/// The ledger as one node tells it, all of it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Whose account this is.
    pub node: u64,
    /// The leaves from 0 on, proven to `checkpoint`.
    pub entries: Vec<v1::ProvenEntry>,
    /// The cosigned checkpoint that they are proven to.
    pub checkpoint: String,
}

impl Ledger {
    /// The bytes of an entry.
    #[must_use]
    pub fn bytes(&self, index: LeafIndex) -> Option<&[u8]> {
        let index = usize::try_from(index.0).ok()?;
        self.entries.get(index).map(|entry| entry.entry.as_slice())
    }

    /// The entry at each index.
    ///
    /// # Panics
    /// If one does not decode.
    pub fn decoded(&self) -> impl Iterator<Item = v1::Entry> {
        self.entries.iter().map(|proven| {
            ledger_core::entry::decode(&proven.entry)
                .unwrap_or_else(|error| panic!("entry {}: {error}", proven.index))
        })
    }

    /// The commands of the entries, with their indexes; the genesis has none.
    ///
    /// # Panics
    /// If one does not decode.
    pub fn commands(&self) -> impl Iterator<Item = (v1::Entry, v1::Command)> {
        self.decoded().filter_map(|entry| {
            let command = ledger_core::entry::command(&entry).expect("a command decodes");
            command.map(|command| (entry, command))
        })
    }

    /// The roots of these sizes, computed from the entries; sizes beyond the ledger are left out.
    #[must_use]
    pub fn roots(
        &self,
        hash: ledger_core::hash::TreeHash,
        sizes: &[TreeSize],
    ) -> BTreeMap<u64, Hash> {
        let mut wanted: Vec<u64> = sizes.iter().map(|size| size.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut wanted = wanted.into_iter().peekable();
        let mut roots = BTreeMap::new();
        let mut tree = ledger_core::tree::frontier::Frontier::new(hash);
        let mut leaves = self.entries.iter();
        while let Some(size) = wanted.peek() {
            if *size == tree.size().0 {
                roots.insert(*size, tree.root());
                wanted.next();
            } else if let Some(leaf) = leaves.next() {
                tree.append(hash.leaf(&leaf.entry));
            } else {
                break;
            }
        }
        roots
    }
}
