//! What must hold of any ledger, read from its entries alone.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::hash::{Hash, LeafIndex, TreeHash};
use ledger_core::state::{Family, Key, MemoryState};
use ledger_core::{entry, ledger, machine};
use ledger_proto::v1::{self, entry::Body};

/// What a run has shown, so that a run which shows too little is noticed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    commands: BTreeMap<String, usize>,
    reasons: BTreeMap<String, usize>,
    results: BTreeMap<String, usize>,
    ends: usize,
    late: usize,
    observed: usize,
}

impl Seen {
    /// Every kind of command, and enough of what matters most.
    pub(super) fn require_everything(&self) {
        assert_eq!(self.commands.len(), 29, "kinds of commands: {self:#?}");
        for reason in [
            "AllowedByPolicy",
            "NoMatchingPermit",
            "ForbiddenByPolicy",
            "Halted",
            "AgentSuspended",
            "SessionClosed",
            "SessionExpired",
            "OutOfScope",
            "AssuranceTooLow",
            "InputTooLarge",
            "CommitmentMismatch",
            "UnknownAction",
            "SchemaMismatch",
            "NoActivePolicy",
            "SessionUnknown",
            "PresenterNotPermitted",
            "InvalidRequest",
        ] {
            assert!(self.reasons.contains_key(reason), "no {reason}: {self:#?}");
        }
        assert!(
            self.reasons["AllowedByPolicy"] > 50
                && self.observed > 10
                && self.ends > 10
                && self.late > 10
                && self.results["Applied"] > 300
                && self.results.len() >= 10,
            "{self:#?}"
        );
    }
}

/// Re-verifies a whole ledger from its entries.
pub(super) fn verify(tree_hash: TreeHash, state: &MemoryState) -> Seen {
    let tip = machine::tip(state).expect("sound");
    let mut leaves = Vec::new();
    let mut seen = Seen::default();
    let mut chains = Chains::default();
    let mut ids = BTreeSet::new();
    let mut last_us = 0;
    for index in 0..tip.size.0 {
        let bytes = ledger::entry_bytes(state, LeafIndex(index))
            .expect("sound")
            .expect("indexes are contiguous");
        let found = entry::decode(&bytes).expect("canonical");
        assert_eq!(found.index, index);
        assert!(found.time_us > last_us, "entry times ascend at {index}");
        last_us = found.time_us;
        let leaf_hash = tree_hash.leaf(&bytes);
        leaves.push(leaf_hash);
        if let Some(command) = entry::command(&found).expect("decodes") {
            let author = command.author.clone().expect("an author");
            let id = (author.kind, author.id, command.request_id.clone());
            assert!(ids.insert(id), "two entries for one request id at {index}");
            count(&mut seen, &command, &found);
        }
        chains.take(&mut seen, &found, leaf_hash);
    }
    let beyond = ledger::entry_bytes(state, LeafIndex(tip.size.0)).expect("sound");
    assert_eq!(beyond, None, "no entry beyond the tip");
    assert_eq!(mth(tree_hash, &leaves), tip.root);
    seen
}

fn count(seen: &mut Seen, command: &v1::Command, found: &v1::Entry) {
    let kind = format!("{:?}", command.body.as_ref().expect("a body"));
    let kind = kind.split('(').next().unwrap_or_default().to_owned();
    *seen.commands.entry(kind).or_default() += 1;
    let result = match found.body.as_ref().expect("a body") {
        Body::Decision(decision) => {
            let reason = format!("{:?}", decision.reason());
            *seen.reasons.entry(reason).or_default() += 1;
            return;
        }
        Body::Outcome(outcome) => {
            seen.observed += usize::from(outcome.observed);
            return;
        }
        Body::SessionOpening(opening) => opening.result(),
        Body::SessionEnd(end) => end.result(),
        Body::Governance(governance) => governance.result(),
        Body::Redemption(_) | Body::Genesis(_) => return,
    };
    *seen.results.entry(format!("{result:?}")).or_default() += 1;
}

/// The chains of all sessions, as a reader of entries follows them.
#[derive(Debug, Default)]
struct Chains {
    /// Count and head of each session.
    open: BTreeMap<Vec<u8>, (u64, Hash)>,
    ended: BTreeSet<Vec<u8>>,
}

impl Chains {
    fn take(&mut self, seen: &mut Seen, found: &v1::Entry, leaf_hash: Hash) {
        if let Some(Body::SessionEnd(end)) = &found.body
            && end.result() == v1::Result::Applied
        {
            let (count, head) = self.open[&end.session_id];
            assert_eq!(
                (end.count, end.head.as_slice()),
                (count, &head.as_bytes()[..])
            );
            assert!(
                self.ended.insert(end.session_id.clone()),
                "a session ends once"
            );
            seen.ends += 1;
        }
        let Some(link) = entry::chain(found) else {
            return;
        };
        if link.late {
            assert_eq!((link.number, link.previous_hash.len()), (0, 0));
            if let Some(Body::Decision(decision)) = &found.body {
                assert_ne!(decision.verdict(), v1::Verdict::Allow, "no ALLOW is late");
            }
            seen.late += 1;
            return;
        }
        assert!(
            !self.ended.contains(&link.session_id),
            "whatever comes after the end is late"
        );
        match self.open.get(&link.session_id) {
            None => {
                assert_eq!((link.number, link.previous_hash.len()), (1, 0));
                assert!(matches!(found.body, Some(Body::SessionOpening(_))));
            }
            Some((count, head)) => {
                assert_eq!(link.number, count + 1);
                assert_eq!(link.previous_hash, head.as_bytes());
            }
        }
        self.open
            .insert(link.session_id.clone(), (link.number, leaf_hash));
    }
}

/// RFC 6962, 2.1, as it is written.
fn mth(tree_hash: TreeHash, leaves: &[Hash]) -> Hash {
    match leaves {
        [] => tree_hash.empty(),
        [leaf] => *leaf,
        _ => {
            let half = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(half);
            tree_hash.node(&mth(tree_hash, left), &mth(tree_hash, right))
        }
    }
}

/// True for the key of a compartment.
pub(super) fn is_compartment(key: &[u8]) -> bool {
    key.starts_with(Key::family(Family::Compartment).as_bytes())
}

/// The keys of the compartments that an entry erased; none if it did not take effect.
pub(super) fn erased_keys(found: &v1::Entry) -> Vec<Vec<u8>> {
    let applied = matches!(&found.body, Some(Body::Governance(governance)) if governance.result() == v1::Result::Applied);
    let command = entry::command(found).expect("decodes");
    match command.and_then(|command| command.body) {
        Some(v1::command::Body::Erase(erase)) if applied => erase
            .compartments
            .iter()
            .map(|named| Key::compartment(LeafIndex(named.index), named.kind()).into_bytes())
            .collect(),
        _ => Vec::new(),
    }
}
