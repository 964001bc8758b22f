//! What the leader's last round of collecting lacked: which cosigners gave no cosignature, and why. For those who look after the
//! cluster; nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::note::signed_note::{Note, NoteSignature};
use ledger_core::note::tlog_policy::{PolicyWitness, TlogPolicy};

use super::Cosigner;
use super::collect::Needed;
use super::witnesses::is_met_by_nodes;
use crate::raft::standing::Leading;

/// Most cosigners that are named in one sentence; a policy can have more.
const MAX_NAMED: usize = 8;
/// Longest reason that is repeated, in characters: others say it.
const MAX_REASON: usize = 300;

/// Why cosigners gave no cosignature in a round, by their names.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, String>);

impl Refusals {
    /// Keeps what a cosigner said instead, or what kept it from saying anything.
    pub(super) fn note(&mut self, cosigner: &str, why: &str) {
        let why = why.chars().take(MAX_REASON).collect();
        self.0.insert(cosigner.to_owned(), why);
    }

    /// True if a cosigner has said why.
    pub(super) fn is_noted_by(&self, cosigner: &str) -> bool {
        self.0.contains_key(cosigner)
    }
}

/// What a round lacked, in one sentence; none if it met everything.
pub(super) fn lacking(
    note: &Note,
    needed: &Needed,
    open: &BTreeSet<u64>,
    is_node: impl Fn(&PolicyWitness) -> bool + Copy,
    refusals: &Refusals,
) -> Option<String> {
    let meets = |policy: &TlogPolicy| super::collect::is_met(note, std::slice::from_ref(policy));
    let what = if !meets(&needed.in_force) {
        "newer trees wait for cosignatures".to_owned()
    } else if let Some(first) = open.first() {
        format!("the change of the nodes (trust epoch {first}) waits for cosignatures")
    } else {
        return None;
    };
    let signed: BTreeSet<&str> = note.signatures().iter().map(NoteSignature::name).collect();
    let mut missing: BTreeMap<&str, &str> = BTreeMap::new();
    for policy in needed.all.iter().filter(|policy| !meets(policy)) {
        // Nodes beyond the quorum are not waited for.
        let nodes_suffice = is_met_by_nodes(note, std::slice::from_ref(policy), is_node);
        for witness in policy.witnesses() {
            let name = witness.key.name();
            let is_beyond = nodes_suffice && is_node(witness);
            if !signed.contains(name) && !is_beyond {
                let why = refusals.0.get(name).map_or("was not asked", String::as_str);
                missing.insert(name, why);
            }
        }
    }
    let mut named: Vec<String> = missing
        .iter()
        .take(MAX_NAMED)
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    if missing.len() > MAX_NAMED {
        named.push(format!("{} more", missing.len() - MAX_NAMED));
    }
    Some(format!("{what}: {}", named.join(", ")))
}

impl Cosigner {
    /// What the last round lacked, while this node leads, in one sentence; none if it lacked nothing.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        let leads = self.parts.standing.borrow().leading == Leading::This;
        // A statement for each: what is borrowed is locked until its end, and whoever writes it in between waits for that.
        let there = self.parts.tip.borrow().size;
        let have = self.have();
        // What is missing may have come from elsewhere since.
        let lacks = have < there || !self.open_steps_or_none().is_empty();
        (leads && lacks)
            .then(|| self.lacking.borrow().clone())
            .flatten()
    }
}
