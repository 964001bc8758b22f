//! What a member sends as a leader: its vote, the votes that made it one, and entries for the log.

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::machine::Tip;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;

use super::base::{base, batch, election, membership};
use super::promises;
use super::script::Script;
use super::speech::Speech;

/// Most requests of one stream, and entries of one request.
const MAX_REQUESTS: u8 = 3;
const MAX_ENTRIES: u8 = 5;

impl Speech<'_> {
    /// A vote of the one who speaks, or nearly.
    pub(super) fn vote(&mut self, committed: bool) -> Option<wire::Vote> {
        let own = promises::vote(&*self.node.store);
        let script = &mut self.script;
        let vote = match script.byte() % 8 {
            // The leader as it is, or the next one.
            0 | 1 => wire::Vote { committed, ..own },
            2..=4 => wire::Vote {
                term: own.term.saturating_add(1),
                node_id: self.speaker,
                committed,
            },
            5 => wire::Vote {
                term: script.near(own.term),
                node_id: self.speaker,
                committed,
            },
            6 => wire::Vote {
                term: script.near(own.term),
                node_id: script.pick(&[2, 3, 1, 0, 4, u64::MAX]),
                committed: committed ^ script.one_in(4),
            },
            _ => return None,
        };
        Some(vote)
    }

    /// The votes that a leader shows.
    pub(super) fn shown(&mut self, vote: Option<&wire::Vote>) -> Vec<wire::VoteGrant> {
        let vote = vote.copied().unwrap_or_default();
        match self.script.byte() % 8 {
            0..=3 => election(&vote, &[2, 3]),
            4 => Vec::new(),
            5 => election(&vote, &[2, 2, 2]),
            6 => {
                let mut of_another_term = election(&vote, &[2, 3]);
                of_another_term.extend(election(
                    &wire::Vote {
                        term: vote.term.saturating_add(1),
                        ..vote
                    },
                    &[3],
                ));
                of_another_term.rotate_left(1);
                of_another_term.truncate(2);
                of_another_term
            }
            _ => {
                let mut many = election(&vote, &[2]);
                many.resize(1 + usize::from(self.script.byte()), many[0].clone());
                many
            }
        }
    }

    /// Requests of one stream.
    pub(super) fn appends(&mut self) -> Vec<wire::AppendRequest> {
        let requests = 1 + self.script.below(MAX_REQUESTS);
        let mut end = promises::last(&*self.node.store).unwrap_or_default();
        (0..requests).map(|_| self.append(&mut end)).collect()
    }

    /// One request, after what the ones before it have led to.
    fn append(&mut self, end: &mut wire::LogId) -> wire::AppendRequest {
        let vote = self.vote(true);
        let election = self.shown(vote.as_ref());
        let previous = self.previous(*end);
        let mut before = previous;
        let mut entries = Vec::new();
        for _ in 0..self.script.below(MAX_ENTRIES + 1) {
            let entry = self.entry(vote.as_ref(), before);
            before = entry.log_id.or(before);
            entries.push(entry);
        }
        *end = before.unwrap_or_default();
        let committed = match self.script.byte() % 4 {
            0 => promises::applied(&*self.node.store),
            1 => before,
            2 => None,
            _ => Some(self.script.id(*end)),
        };
        wire::AppendRequest {
            vote,
            previous,
            entries,
            committed,
            sent_at_us: self.script.near(base().setting.now_us),
            has_quorum: !self.script.one_in(4),
            election,
        }
    }

    /// The entry before the first: the end of the log, an earlier one, or none that is there.
    fn previous(&mut self, end: wire::LogId) -> Option<wire::LogId> {
        match self.script.byte() % 8 {
            0..=3 => Some(end),
            4 | 5 => {
                let back = u64::from(self.script.byte() % 8);
                promises::log_id_at(&*self.node.store, end.index.saturating_sub(back))
            }
            6 => Some(self.script.id(end)),
            _ => None,
        }
    }

    fn entry(&mut self, vote: Option<&wire::Vote>, before: Option<wire::LogId>) -> wire::LogEntry {
        let term = vote.map_or(1, |vote| vote.term);
        let index = before.map_or(0, |before| before.index.wrapping_add(1));
        let log_id = match self.script.byte() % 8 {
            0..=4 => Some(wire::LogId { term, index }),
            5 => Some(wire::LogId {
                term: before.map_or(0, |before| before.term),
                index,
            }),
            6 => Some(self.script.id(wire::LogId { term, index })),
            _ => None,
        };
        wire::LogEntry {
            log_id,
            payload: self.payload(),
        }
    }

    fn payload(&mut self) -> Option<wire::log_entry::Payload> {
        let script = &mut self.script;
        Some(match script.byte() % 8 {
            0 => wire::log_entry::Payload::Blank(true),
            1..=4 => self.batch(),
            5 => membership(script.pick::<&[u64]>(&[
                &[1, 2, 3],
                &[1, 2, 3, 4],
                &[2, 3],
                &[1, 2],
                &[1],
                &[],
            ])),
            6 => self.membership(),
            _ => match script.byte() % 4 {
                0 => return None,
                1 => wire::log_entry::Payload::Blank(false),
                _ => wire::log_entry::Payload::Batch(script.rest().to_vec().into()),
            },
        })
    }

    /// Sets of voters, peers beside them, and addresses: any.
    fn membership(&mut self) -> wire::log_entry::Payload {
        let script = &mut self.script;
        let among = |mask: u8| (0..6).filter(move |node| mask >> node & 1 == 1);
        let sets = 1 + script.below(3);
        let voters = (0..sets).map(|_| wire::VoterSet {
            node_ids: among(script.byte()).collect(),
        });
        let voters = voters.collect();
        let strange = script.one_in(4);
        let peers = among(script.byte()).map(|node| wire::Peer {
            node_id: node,
            address: if strange {
                String::new()
            } else {
                format!("127.0.0.1:{}", 7000 + node)
            },
        });
        let peers = peers.collect();
        wire::log_entry::Payload::Membership(wire::Membership { voters, peers })
    }

    fn batch(&mut self) -> wire::log_entry::Payload {
        let tip = promises::tip(&*self.node.store);
        let time_us = match self.script.byte() % 4 {
            0 | 1 => base().setting.now_us,
            2 => tip.time_us,
            _ => self.script.near(tip.time_us),
        };
        let prior = match self.script.byte() % 8 {
            0..=4 => tip,
            5 => Tip {
                root: Hash::from_bytes([self.script.byte(); 32]),
                ..tip
            },
            6 => Tip {
                size: TreeSize(self.script.near(tip.size.0)),
                ..tip
            },
            _ => {
                let size = tip.size.0.saturating_sub(u64::from(self.script.byte() % 4));
                let size = TreeSize(size.max(1));
                let root = promises::root_at(&*self.node.store, size);
                Tip { size, root, ..tip }
            }
        };
        let submissions = (0..=self.script.below(3)).map(|_| submission(&mut self.script));
        batch(time_us, &prior, submissions.collect())
    }
}

/// A command at hand.
pub(super) fn submission(script: &mut Script<'_>) -> v1::Submission {
    let known = &base().submissions;
    let mut submission = known[usize::from(script.byte()) % known.len()].clone();
    match script.byte() % 16 {
        13 => submission.compartments.clear(),
        14 => submission.signed = None,
        15 => {
            if let Some(signed) = &mut submission.signed {
                signed.command.extend(script.rest());
            }
        }
        _ => {}
    }
    submission
}

/// What looks as if an admin had signed it.
pub(super) fn hand_over(script: &mut Script<'_>) -> wire::HandOverRequest {
    let to = (!script.one_in(3)).then(|| script.near(1));
    let is_signed = !script.one_in(4);
    let time_us = script.word();
    let mut words = |many: usize| -> Vec<u8> {
        (0..many)
            .flat_map(|_| script.word().to_be_bytes())
            .collect()
    };
    let signature = wire::ReadSignature {
        key_id: words(2),
        time_us,
        nonce: words(2),
        signature: words(8),
    };
    wire::HandOverRequest {
        request: v1::TransferLeadershipRequest { to }.encode_to_vec(),
        signature: is_signed.then_some(signature),
    }
}
