//! The witnesses outside: asked by the leader once the nodes' part of the trust policy is met, so that they never see a tree that
//! the nodes have not vouched for. A witness that is down holds up what is proven, and nothing that is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ledger_core::evidence::StateTiles;
use ledger_core::hash::TreeSize;
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_policy::{PolicyWitness, TlogPolicy};
use ledger_core::note::tlog_witness::AddCheckpoint;
use ledger_core::tree::proof::Prover;
use ledger_proto::v1;

use super::collect::{Needed, is_met};
use super::lacking::Refusals;
use super::witness_client::{WitnessAnswer, WitnessClient};
use super::{Cosigner, TrustPolicies};
use crate::raft::standing::Leading;
use crate::seldom::Seldom;
use crate::storage::view::StoreState;

/// How long the witnesses have for one checkpoint: they are all asked at once, and twice if they name another size.
const WITNESS_ROUND: Duration = Duration::from_secs(3);
/// Between two lines of the log about witnesses that do not cosign.
const COMPLAINTS: Duration = Duration::from_secs(30);

/// What this node knows of the witnesses, by the names of their keys. Nothing of it is believed: a wrong size costs one more
/// question.
#[derive(Debug)]
pub(super) struct Witnesses {
    known: Mutex<BTreeMap<String, KnownWitness>>,
    complaints: Seldom,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            complaints: Seldom::new(COMPLAINTS),
        }
    }
}

/// What this node knows of one witness.
#[derive(Debug, Clone, Default)]
struct KnownWitness {
    /// The size that it has cosigned last, by its own word.
    size: Option<TreeSize>,
    /// The size of the newest tree whose cosignature by it was verified here; 0 for none.
    cosigned: u64,
    /// Why it gave no cosignature when it was asked last.
    refused: Option<String>,
}

impl Witnesses {
    fn update(&self, name: &str, change: impl FnOnce(&mut KnownWitness)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(name.to_owned()).or_default());
    }

    fn get(&self, name: &str) -> KnownWitness {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().unwrap_or_default()
    }
}

/// True if the policy would be met if all witnesses outside had cosigned too.
pub(super) fn is_met_by_nodes(
    note: &Note,
    policies: &[TlogPolicy],
    is_node: impl Fn(&PolicyWitness) -> bool,
) -> bool {
    let signed: BTreeSet<&str> = note.signatures().iter().map(|by| by.name()).collect();
    let counts = |witness: &PolicyWitness| {
        // Every line of the note was verified before it was added.
        !is_node(witness) || signed.contains(witness.key.name())
    };
    policies.iter().all(|policy| policy.is_met_by(counts))
}

impl Cosigner {
    /// Asks the witnesses outside for their cosignatures of what the nodes have cosigned.
    pub(super) async fn ask_witnesses(
        &self,
        note: &mut Note,
        size: TreeSize,
        needed: &Needed,
        is_node: impl Fn(&PolicyWitness) -> bool,
        refusals: &mut Refusals,
    ) {
        let signed: BTreeSet<String> = note
            .signatures()
            .iter()
            .map(|by| by.name().to_owned())
            .collect();
        let mut outside: BTreeMap<&str, &str> = BTreeMap::new();
        for witness in needed.all.iter().flat_map(TlogPolicy::witnesses) {
            let name = witness.key.name();
            let is_asked = !is_node(witness) && !signed.contains(name);
            if let Some(url) = witness.url.as_deref().filter(|_| is_asked) {
                outside.insert(name, url);
            }
        }
        let checkpoint = note.to_string();
        let mut answers: FuturesUnordered<_> = outside
            .iter()
            .map(async |(name, url)| {
                let answer = self.ask_witness(name, url, size, &checkpoint).await;
                ((*name).to_owned(), answer)
            })
            .collect();
        let collect = async {
            while !is_met(note, &needed.all) {
                let Some((name, answer)) = answers.next().await else {
                    break;
                };
                self.take_answer(note, &name, size, answer, needed, refusals);
            }
        };
        // What is missing then may come in the next round.
        let in_time = tokio::time::timeout(WITNESS_ROUND, collect).await.is_ok();
        drop(answers);
        if in_time {
            return;
        }
        let signed: BTreeSet<&str> = note.signatures().iter().map(|by| by.name()).collect();
        for (name, url) in &outside {
            if !signed.contains(name) && !refusals.is_noted_by(name) {
                let why = format!("no answer from {url} within {WITNESS_ROUND:?}");
                self.refused(name, &why, refusals);
            }
        }
    }

    fn take_answer(
        &self,
        note: &mut Note,
        name: &str,
        size: TreeSize,
        answer: Result<String, String>,
        needed: &Needed,
        refusals: &mut Refusals,
    ) {
        let lines = match answer {
            Ok(lines) => lines,
            Err(refused) => {
                self.refused(name, &refused, refusals);
                return;
            }
        };
        let before = note.signatures().len();
        for line in lines.lines() {
            let answer = (name.to_owned(), Ok(line.to_owned()));
            self.add(note, answer, &needed.all, refusals);
        }
        if note.signatures().len() == before {
            self.refused(name, "its cosignature is not valid", refusals);
            return;
        }
        self.witnesses.update(name, |known| {
            known.size = Some(size);
            known.cosigned = size.0;
            known.refused = None;
        });
    }

    fn refused(&self, name: &str, why: &str, refusals: &mut Refusals) {
        refusals.note(name, why);
        self.witnesses
            .update(name, |known| known.refused = Some(why.to_owned()));
        if self.witnesses.complaints.may_say() {
            tracing::warn!(
                witness = name,
                why,
                "a witness does not cosign; if the trust policy needs it, nothing new is proven until it does"
            );
        }
    }

    /// Asks one witness, a second time if it has cosigned another size than this node believed.
    async fn ask_witness(
        &self,
        name: &str,
        url: &str,
        size: TreeSize,
        checkpoint: &str,
    ) -> Result<String, String> {
        let client = WitnessClient::shared()?;
        let believed = self.witnesses.get(name).size;
        let mut old = believed.unwrap_or_else(|| self.have()).min(size);
        for asked_again in [false, true] {
            let request = self.add_checkpoint(old, size, checkpoint)?;
            match client.add_checkpoint(url, &request).await? {
                WitnessAnswer::Cosigned(lines) => {
                    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
                    return Ok(lines.join("\n"));
                }
                WitnessAnswer::Refused(why) => return Err(format!("{url}: {why}")),
                WitnessAnswer::OtherSize(theirs) if theirs > size => {
                    self.witnesses.update(name, |known| known.size = None);
                    return Err(format!(
                        "{url}: it has cosigned {theirs} entries and there are {size} here: this node lags, or the ledger was put back from a copy"
                    ));
                }
                WitnessAnswer::OtherSize(theirs) if asked_again || theirs == old => {
                    return Err(format!(
                        "{url}: it has cosigned another tree of {theirs} entries"
                    ));
                }
                WitnessAnswer::OtherSize(theirs) => {
                    self.witnesses
                        .update(name, |known| known.size = Some(theirs));
                    old = theirs;
                }
            }
        }
        Err(format!("{url}: it names another size each time"))
    }

    /// The request for a tree of this size, with the proof that it contains the one of the old size.
    fn add_checkpoint(
        &self,
        old: TreeSize,
        size: TreeSize,
        checkpoint: &str,
    ) -> Result<AddCheckpoint, String> {
        let proof = if old.0 == 0 {
            Vec::new()
        } else {
            let state = StoreState(&*self.parts.store);
            let tiles = StateTiles(&state);
            let mut prover = Prover::new(&tiles, self.parts.notary.tree_hash(), size);
            let proof = prover.consistency(old);
            proof.map_err(|error| format!("no consistency proof: {error}"))?
        };
        Ok(AddCheckpoint {
            old,
            proof,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// How the witnesses outside are that the trust policy in force names, as this node sees them; none unless it leads.
    #[must_use]
    pub fn witness_statuses(&self) -> Vec<v1::WitnessStatus> {
        if self.parts.standing.borrow().leading != Leading::This {
            return Vec::new();
        }
        let state = StoreState(&*self.parts.store);
        let size = self.parts.tip.borrow().size;
        let policy = TrustPolicies::read(&state, size).and_then(|policies| policies.in_force());
        // What cannot be read stops the node elsewhere.
        let Ok(policy) = policy else {
            return Vec::new();
        };
        let nodes: BTreeSet<Vec<u8>> = self
            .cards()
            .unwrap_or_default()
            .into_iter()
            .map(|card| card.public_key)
            .collect();
        let outside = policy.witnesses().iter();
        let outside = outside
            .filter(|witness| !nodes.contains(witness.key.public_key().as_bytes().as_slice()));
        let outside = outside.filter_map(|witness| Some((witness, witness.url.as_ref()?)));
        outside
            .map(|(witness, url)| {
                let known = self.witnesses.get(witness.key.name());
                v1::WitnessStatus {
                    name: witness.name.clone(),
                    url: url.clone(),
                    cosigned_tree_size: known.cosigned,
                    not_cosigning_reason: known.refused.unwrap_or_default(),
                }
            })
            .collect()
    }
}
