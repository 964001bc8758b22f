//! What a node concludes from what the others remember of it. Pure, so that every case can be told in a test.
//!
//! A node that may have forgotten something is safe once it knows what any quorum that it belonged to has decided. Each quorum
//! without this node and any `n - q + 1` of the others have a node in common. So it waits until so many have answered that have
//! themselves forgotten nothing. None of them may hold a promise of this node that it does not know; and it neither votes nor
//! cosigns before its term and its log are as far as theirs were. Then it holds all that was committed, and votes in no term again
//! in which it may have voted.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::hash::{Hash, TreeSize};

use crate::storage::marker::{MarkedLogId, MarkedTree, MarkedVote};

/// What is known of the data directory before anybody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directory {
    /// `init` made it, and its node has never taken part.
    New,
    /// It is the one that this node wrote last.
    Continued,
    /// It was copied, or the disk cannot tell.
    Copied,
}

/// What a node knows of its own promises.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) node_id: u64,
    /// Its greatest vote.
    pub(super) vote: Option<MarkedVote>,
    /// The end of its log.
    pub(super) last_log: Option<MarkedLogId>,
    /// The largest tree that it has cosigned.
    pub(super) cosigned: Option<MarkedTree>,
}

/// A tree with this node's own cosignature, which another node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldTree {
    pub(super) size: TreeSize,
    pub(super) root: Hash,
    /// The root that this node computes at that size, if its tree is that large.
    pub(super) own_root: Option<Hash>,
}

/// What another node answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// It has forgotten nothing, as far as it can know.
    pub(super) remembers: bool,
    /// It takes part in everything.
    pub(super) takes_part: bool,
    /// The newest vote that this node granted to it.
    pub(super) granted: Option<MarkedVote>,
    /// In which term it led when this node acknowledged an entry to it last.
    pub(super) acknowledged_in_term: u64,
    /// That entry.
    pub(super) acknowledged: Option<MarkedLogId>,
    /// The largest tree that it holds with this node's cosignature.
    pub(super) cosigned: Option<HeldTree>,
    /// Its own vote.
    pub(super) vote: Option<MarkedVote>,
    /// The end of its own log.
    pub(super) last_log: Option<MarkedLogId>,
}

impl Answer {
    fn is_blank(&self) -> bool {
        self.last_log.is_none()
    }
}

/// A promise of this node that another one holds and this one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forgotten {
    #[error("node {by} has this node's vote in term {term}, and this node does not know of it")]
    Vote { by: u64, term: u64 },
    #[error(
        "this node has acknowledged the log up to index {index} to node {by}, in term {term}, and its log ends at {}",
        end.map_or_else(|| "nothing".to_owned(), |end| end.index.to_string())
    )]
    Log {
        by: u64,
        term: u64,
        index: u64,
        end: Option<MarkedLogId>,
    },
    #[error(
        "node {by} holds a tree of {size} entries that this node has cosigned, and this node does not know of it"
    )]
    Cosignature { by: u64, size: TreeSize },
    #[error(
        "node {by} holds a tree of {size} entries that this node has cosigned, and its root is not the one that this node has"
    )]
    Root { by: u64, size: TreeSize },
}

/// Compares what this node knows with what another one holds of it.
pub(super) fn forgotten(own: &Own, by: u64, answer: &Answer) -> Option<Forgotten> {
    let own_term = own.vote.map_or(0, |vote| vote.term);
    if let Some(granted) = answer.granted {
        let same = own.vote.is_some_and(|vote| {
            vote.term == granted.term && (vote.node == granted.node || vote.committed)
        });
        if own_term <= granted.term && !same {
            let term = granted.term;
            return Some(Forgotten::Vote { by, term });
        }
    }
    if let Some(acknowledged) = answer.acknowledged {
        let term = answer.acknowledged_in_term;
        // A leader of a later term may have taken back what was never committed.
        if own_term < term || (own_term == term && own.last_log < Some(acknowledged)) {
            let (index, end) = (acknowledged.index, own.last_log);
            return Some(Forgotten::Log {
                by,
                term,
                index,
                end,
            });
        }
    }
    let held = answer.cosigned?;
    let size = held.size;
    match held.own_root {
        Some(root) if root != held.root => Some(Forgotten::Root { by, size }),
        _ if own.cosigned.is_none_or(|cosigned| cosigned.size < size) => {
            Some(Forgotten::Cosignature { by, size })
        }
        _ => None,
    }
}

/// What the term and the log of a node must reach before it votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) term: u64,
    pub(super) last_log: Option<MarkedLogId>,
}

impl Floor {
    fn of<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> Self {
        Self {
            term: answers
                .clone()
                .filter_map(|answer| Some(answer.vote?.term))
                .max()
                .unwrap_or(0),
            last_log: answers.filter_map(|answer| answer.last_log).max(),
        }
    }

    /// True if a node has reached it.
    pub(super) fn is_reached(&self, own: &Own) -> bool {
        own.vote.map_or(0, |vote| vote.term) >= self.term && own.last_log >= self.last_log
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask on.
    Wait(Waiting),
    /// Take part, once the floor is reached.
    Open(Option<Floor>),
    /// Do not run on this data.
    Refuse(Refused),
}

/// What a node waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The first answers.
    Answers,
    /// Enough nodes of a new ledger.
    Beginning,
    /// Enough nodes that have forgotten nothing, of which these are missing.
    Witnesses(BTreeSet<u64>),
    /// Nothing: these have met another store under this id.
    OtherStore(BTreeSet<u64>),
}

/// Why a node does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody holds a promise that it does not know.
    Forgotten(Forgotten),
    /// It was told to begin a ledger that has begun.
    Begun(u64),
    /// There is nobody whom it could ask.
    Alone,
}

/// What is known when a verdict is asked for.
#[derive(Debug)]
pub(super) struct Case<'c> {
    pub(super) directory: Directory,
    /// This node was told to begin the ledger.
    pub(super) begins: bool,
    /// An operator vouches for the data.
    pub(super) accepted: bool,
    pub(super) own: &'c Own,
    /// The sets of voters in force; two while one replaces the other.
    pub(super) voters: &'c [BTreeSet<u64>],
    pub(super) answers: &'c BTreeMap<u64, Answer>,
    /// Who has met another store under this id.
    pub(super) refused_by: &'c BTreeSet<u64>,
    /// Everybody has answered or failed to once, or has had the time to.
    pub(super) is_asked: bool,
}

impl Case<'_> {
    /// The verdict.
    pub(super) fn verdict(&self) -> Verdict {
        let mut held = self.answers.iter();
        let forgotten = held.find_map(|(by, answer)| forgotten(self.own, *by, answer));
        if let Some(forgotten) = forgotten {
            return Verdict::Refuse(Refused::Forgotten(forgotten));
        }
        if !self.refused_by.is_empty() && self.directory != Directory::Continued {
            return Verdict::Wait(Waiting::OtherStore(self.refused_by.clone()));
        }
        if !self.is_asked {
            return Verdict::Wait(Waiting::Answers);
        }
        if self.accepted {
            return Verdict::Open(None);
        }
        match self.directory {
            Directory::Continued if self.refused_by.is_empty() => Verdict::Open(None),
            Directory::Continued | Directory::Copied => self.by_witnesses(),
            Directory::New => self.of_new(),
        }
    }

    fn of_new(&self) -> Verdict {
        let is_voter = self
            .voters
            .iter()
            .any(|set| set.contains(&self.own.node_id));
        if !is_voter {
            // Nobody can have counted on it yet.
            return Verdict::Open(None);
        }
        let begun = self.answers.iter().find(|(_, answer)| !answer.is_blank());
        if let Some((by, _)) = begun {
            return if self.begins {
                Verdict::Refuse(Refused::Begun(*by))
            } else {
                self.by_witnesses()
            };
        }
        // Whoever begins waits for those who take part already: they cannot tell later that nothing had begun.
        let counts = |answer: &Answer| answer.takes_part || !self.begins;
        let blank: BTreeSet<u64> = self
            .answers
            .iter()
            .filter(|(_, answer)| counts(answer))
            .map(|(id, _)| *id)
            .collect();
        let is_quorum = self.voters.iter().all(|set| {
            let others = set.intersection(&blank).count();
            others + 1 > set.len() / 2
        });
        if is_quorum {
            Verdict::Open(None)
        } else {
            Verdict::Wait(Waiting::Beginning)
        }
    }

    fn by_witnesses(&self) -> Verdict {
        let others = |set: &BTreeSet<u64>| -> BTreeSet<u64> {
            let others = set.iter().copied();
            others.filter(|id| *id != self.own.node_id).collect()
        };
        if self.voters.iter().all(|set| others(set).is_empty()) {
            return Verdict::Refuse(Refused::Alone);
        }
        let remembers = |id: &u64| self.answers.get(id).is_some_and(|answer| answer.remembers);
        let mut missing = BTreeSet::new();
        let mut are_enough = true;
        for set in self.voters {
            let (n, q) = (set.len(), set.len() / 2 + 1);
            let others = others(set);
            let heard = others.iter().filter(|id| remembers(id)).count();
            are_enough &= heard > n - q;
            missing.extend(others.into_iter().filter(|id| !remembers(id)));
        }
        if !are_enough {
            return Verdict::Wait(Waiting::Witnesses(missing));
        }
        let floor = Floor::of(self.answers.values());
        Verdict::Open(Some(floor).filter(|floor| !floor.is_reached(self.own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn vote(term: u64, node: u64, committed: bool) -> MarkedVote {
        MarkedVote {
            term,
            node,
            committed,
        }
    }

    const fn id(term: u64, index: u64) -> MarkedLogId {
        MarkedLogId { term, index }
    }

    fn root(byte: u8) -> Hash {
        Hash::from_bytes([byte; 32])
    }

    /// Node 2, which followed node 1 in term 3 up to entry 14.
    fn own() -> Own {
        Own {
            node_id: 2,
            vote: Some(vote(3, 1, true)),
            last_log: Some(id(3, 14)),
            cosigned: Some(MarkedTree {
                size: TreeSize(14),
                root: root(1),
            }),
        }
    }

    /// Somebody who remembers, and holds the same log.
    fn equal() -> Answer {
        Answer {
            remembers: true,
            takes_part: true,
            vote: Some(vote(3, 1, true)),
            last_log: Some(id(3, 14)),
            ..Answer::default()
        }
    }

    fn verdict(
        directory: Directory,
        own: &Own,
        voters: &[u64],
        answers: &[(u64, Answer)],
        change: impl FnOnce(&mut Case<'_>),
    ) -> Verdict {
        let voters = [voters.iter().copied().collect()];
        let answers = answers.iter().cloned().collect();
        let refused_by = BTreeSet::new();
        let mut case = Case {
            directory,
            begins: false,
            accepted: false,
            own,
            voters: &voters,
            answers: &answers,
            refused_by: &refused_by,
            is_asked: true,
        };
        change(&mut case);
        case.verdict()
    }

    fn missing(ids: &[u64]) -> Verdict {
        Verdict::Wait(Waiting::Witnesses(ids.iter().copied().collect()))
    }

    #[test]
    fn a_promise_that_is_forgotten_is_told_from_one_that_was_taken_back_in_order() {
        let granted = |vote| Answer {
            granted: Some(vote),
            ..equal()
        };
        let forgets = |own: &Own, answer: &Answer| forgotten(own, 1, answer);
        assert_eq!(forgets(&own(), &equal()), None);
        assert_eq!(forgets(&own(), &granted(vote(2, 1, false))), None);
        assert_eq!(forgets(&own(), &granted(vote(3, 1, false))), None);
        let later = granted(vote(4, 1, false));
        let vote_4 = Some(Forgotten::Vote { by: 1, term: 4 });
        assert_eq!(forgets(&own(), &later), vote_4);
        let lost_election = Own {
            vote: Some(vote(3, 2, false)),
            ..own()
        };
        let vote_3 = Some(Forgotten::Vote { by: 1, term: 3 });
        assert_eq!(forgets(&lost_election, &granted(vote(3, 1, false))), vote_3);
        // A candidate of the same term that another one won has voted for itself before.
        assert_eq!(forgets(&own(), &granted(vote(3, 3, false))), None);

        let acknowledged = |term, id| Answer {
            acknowledged_in_term: term,
            acknowledged: Some(id),
            ..equal()
        };
        assert_eq!(forgets(&own(), &acknowledged(3, id(3, 14))), None);
        assert_eq!(
            forgets(&own(), &acknowledged(2, id(2, 90))),
            None,
            "taken back"
        );
        for (term, end) in [(3, id(3, 15)), (4, id(3, 10))] {
            let found = forgets(&own(), &acknowledged(term, end));
            assert!(matches!(found, Some(Forgotten::Log { .. })), "{term}");
        }

        let held = |size, byte, own_root: Option<u8>| Answer {
            cosigned: Some(HeldTree {
                size: TreeSize(size),
                root: root(byte),
                own_root: own_root.map(root),
            }),
            ..equal()
        };
        assert_eq!(forgets(&own(), &held(14, 1, Some(1))), None);
        assert_eq!(forgets(&own(), &held(9, 7, Some(7))), None);
        let (by, size) = (1, TreeSize(14));
        let other_root = Some(Forgotten::Root { by, size });
        assert_eq!(forgets(&own(), &held(14, 2, Some(1))), other_root);
        let size = TreeSize(15);
        let unknown = Some(Forgotten::Cosignature { by, size });
        assert_eq!(forgets(&own(), &held(15, 2, None)), unknown);
        assert_eq!(forgets(&own(), &held(15, 2, Some(2))), unknown);
    }

    #[test]
    fn its_own_directory_waits_for_nobody_and_a_copy_for_enough() {
        let answers = [(1, equal()), (3, equal())];
        let (open, three) = (Verdict::Open(None), [1, 2, 3]);
        for known in [&answers[..0], &answers[..1], &answers[..]] {
            let continued = verdict(Directory::Continued, &own(), &three, known, |_| ());
            assert_eq!(continued, open);
        }
        let copied = |voters: &[u64], answers: &[(u64, Answer)]| {
            verdict(Directory::Copied, &own(), voters, answers, |_| ())
        };
        assert_eq!(copied(&three, &answers[..0]), missing(&[1, 3]));
        assert_eq!(copied(&three, &answers[..1]), missing(&[3]));
        assert_eq!(copied(&three, &answers), open);
        let amnesiac = Answer {
            remembers: false,
            ..equal()
        };
        assert_eq!(
            copied(&three, &[(1, equal()), (3, amnesiac)]),
            missing(&[3])
        );
        let five = [1, 2, 3, 4, 5];
        assert_eq!(copied(&five, &answers), missing(&[4, 5]));
        let more = [(1, equal()), (3, equal()), (5, equal())];
        assert_eq!(copied(&five, &more), open);
        assert_eq!(copied(&[1, 2], &more), open);
        assert_eq!(copied(&[2], &[]), Verdict::Refuse(Refused::Alone));
        let accepted = verdict(Directory::Copied, &own(), &three, &[], |case| {
            case.accepted = true;
        });
        assert_eq!(accepted, open, "an operator's word");
        let early = verdict(Directory::Continued, &own(), &three, &[], |case| {
            case.is_asked = false;
        });
        assert_eq!(early, Verdict::Wait(Waiting::Answers));
    }

    #[test]
    fn both_sets_of_voters_count_while_one_replaces_the_other() {
        let own = own();
        let voters = [BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 4, 5])];
        let refused_by = BTreeSet::new();
        let heard = |ids: &[u64]| {
            let answers = ids.iter().map(|id| (*id, equal())).collect();
            Case {
                directory: Directory::Copied,
                begins: false,
                accepted: false,
                own: &own,
                voters: &voters,
                answers: &answers,
                refused_by: &refused_by,
                is_asked: true,
            }
            .verdict()
        };
        assert_eq!(heard(&[1, 3]), missing(&[4, 5]));
        assert_eq!(heard(&[1, 3, 4]), missing(&[5]));
        assert_eq!(heard(&[1, 3, 4, 5]), Verdict::Open(None));
    }

    #[test]
    fn a_copy_votes_only_once_it_is_as_far_as_the_others_were() {
        let ahead = Answer {
            vote: Some(vote(5, 3, false)),
            last_log: Some(id(4, 20)),
            ..equal()
        };
        let answers = [(1, equal()), (3, ahead)];
        let floor = Floor {
            term: 5,
            last_log: Some(id(4, 20)),
        };
        let copied = verdict(Directory::Copied, &own(), &[1, 2, 3], &answers, |_| ());
        assert_eq!(copied, Verdict::Open(Some(floor)));
        assert!(!floor.is_reached(&own()));
        let caught_up = Own {
            vote: Some(vote(5, 3, true)),
            last_log: Some(id(4, 20)),
            ..own()
        };
        assert!(floor.is_reached(&caught_up));
        // A node that was only down keeps its vote: the others' logs may never be committed.
        let continued = verdict(Directory::Continued, &own(), &[1, 2, 3], &answers, |_| ());
        assert_eq!(continued, Verdict::Open(None));
    }

    #[test]
    fn who_holds_a_promise_is_believed_by_its_own_directory_too() {
        let holds = Answer {
            acknowledged_in_term: 3,
            acknowledged: Some(id(3, 15)),
            remembers: false,
            ..equal()
        };
        for directory in [Directory::New, Directory::Continued, Directory::Copied] {
            let found = verdict(
                directory,
                &own(),
                &[1, 2, 3],
                &[(1, holds.clone())],
                |case| {
                    case.accepted = true;
                },
            );
            assert!(matches!(found, Verdict::Refuse(Refused::Forgotten(_))));
        }
    }

    #[test]
    fn a_new_ledger_begins_with_a_quorum_of_new_nodes_and_no_other_twice() {
        let new = Own {
            node_id: 1,
            vote: None,
            last_log: None,
            cosigned: None,
        };
        let blank = |takes_part| Answer {
            takes_part,
            ..Answer::default()
        };
        let begins = |voters: &[u64], answers: &[(u64, Answer)]| {
            verdict(Directory::New, &new, voters, answers, |case| {
                case.begins = true
            })
        };
        let waits = Verdict::Wait(Waiting::Beginning);
        let open = Verdict::Open(None);
        assert_eq!(begins(&[1], &[]), open);
        assert_eq!(begins(&[1, 2, 3], &[]), waits);
        assert_eq!(begins(&[1, 2, 3], &[(2, blank(false))]), waits);
        assert_eq!(begins(&[1, 2, 3], &[(2, blank(true))]), open);
        let begun = Verdict::Refuse(Refused::Begun(3));
        assert_eq!(begins(&[1, 2, 3], &[(2, blank(true)), (3, equal())]), begun);

        let joins = |voters: &[u64], answers: &[(u64, Answer)]| {
            verdict(Directory::New, &new, voters, answers, |_| ())
        };
        assert_eq!(joins(&[1, 2, 3], &[(2, blank(false))]), open);
        assert_eq!(joins(&[1, 2, 3], &[(2, equal())]), missing(&[3]));
        assert_eq!(
            joins(&[1, 2, 3], &[(2, equal()), (3, blank(false))]),
            missing(&[3])
        );
        let both = joins(&[1, 2, 3], &[(2, equal()), (3, equal())]);
        assert!(matches!(both, Verdict::Open(Some(_))));
        assert_eq!(joins(&[2, 3, 4], &[]), open, "nobody counts on it yet");
    }

    #[test]
    fn an_id_that_was_met_with_another_store_waits() {
        let (by, own) = (BTreeSet::from([3]), own());
        let voters = [BTreeSet::from([1, 2, 3])];
        let refused = |directory, accepted| {
            Case {
                directory,
                begins: false,
                accepted,
                own: &own,
                voters: &voters,
                answers: &BTreeMap::from([(1, equal())]),
                refused_by: &by,
                is_asked: true,
            }
            .verdict()
        };
        let other = Verdict::Wait(Waiting::OtherStore(by.clone()));
        for directory in [Directory::New, Directory::Copied] {
            assert_eq!(refused(directory, true), other, "whatever an operator says");
        }
        // It did take part on this directory: then it is as if it were a copy.
        assert_eq!(refused(Directory::Continued, false), missing(&[3]));
    }
}
