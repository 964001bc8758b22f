//! The nodes that this node speaks with, and their keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::signer::PUBLIC_KEY_LEN;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::key::Spki;

/// What a node is, as far as this one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A member of the ledger that votes, by the newest membership in this node's log.
    Voter,
    /// A member of the ledger that does not vote yet.
    Learner,
    /// No member of the ledger any more, and still among Raft's replicas, so that it can cosign that it leaves.
    Leaving,
    /// Not in this node's ledger: named by a trust policy that this node believes.
    Named,
}

impl Role {
    /// The role, as the object of a sentence.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Voter => "a voter",
            Self::Learner => "a learner",
            Self::Leaving => "leaving",
            Self::Named => "named by a trust policy only",
        }
    }
}

/// What this node has of the ledger itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Footing {
    /// Its genesis, and nothing of the log.
    #[default]
    New,
    /// A log, or a copy, that says who the replicas are.
    Joined,
}

impl Footing {
    /// The footing, as the rest of a sentence on this node.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::New => "has only its genesis",
            Self::Joined => "has joined",
        }
    }
}

/// A node that is to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: [u8; PUBLIC_KEY_LEN],
    /// What it is.
    pub role: Role,
}

/// A node that this one speaks with.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub node_id: u64,
    /// Its key.
    pub key: Spki,
    /// What it is.
    pub role: Role,
    /// Cancelled when it is not listed any more: its connections end.
    pub(super) unlisted: CancellationToken,
}

impl Entry {
    /// A node that is dialled before it is listed, because it is to join.
    pub(super) fn of_newcomer(node_id: u64, key: &[u8; PUBLIC_KEY_LEN]) -> Self {
        Self {
            node_id,
            key: Spki::of(key),
            role: Role::Named,
            unlisted: CancellationToken::new(),
        }
    }
}

/// The nodes that this one speaks with. What lists them is the node's to say; a connection needs its node to be listed, and ends
/// when it is not any more.
#[derive(Debug, Default)]
pub struct KeyDirectory {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    footing: Footing,
    entries: BTreeMap<u64, Entry>,
}

impl KeyDirectory {
    /// A directory of these nodes.
    #[must_use]
    pub fn of(footing: Footing, nodes: &BTreeMap<u64, Listed>) -> Self {
        let directory = Self::default();
        directory.replace(footing, nodes);
        directory
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists these nodes and no others. Connections of those that are not listed any more, or under another key, are ended.
    pub fn replace(&self, footing: Footing, nodes: &BTreeMap<u64, Listed>) {
        let mut content = self.content();
        content.footing = footing;
        let mut before = std::mem::take(&mut content.entries);
        for (node_id, listed) in nodes {
            let key = Spki::of(&listed.key);
            let unlisted = match before.remove(node_id) {
                Some(entry) if entry.key == key => entry.unlisted,
                Some(entry) => {
                    entry.unlisted.cancel();
                    CancellationToken::new()
                }
                None => CancellationToken::new(),
            };
            let entry = Entry {
                node_id: *node_id,
                key,
                role: listed.role,
                unlisted,
            };
            content.entries.insert(*node_id, entry);
        }
        for entry in before.values() {
            entry.unlisted.cancel();
        }
    }

    /// What this node has of the ledger.
    #[must_use]
    pub fn footing(&self) -> Footing {
        self.content().footing
    }

    /// The node of this id.
    #[must_use]
    pub fn by_id(&self, node_id: u64) -> Option<Entry> {
        self.content().entries.get(&node_id).cloned()
    }

    /// The node that shows this key.
    #[must_use]
    pub fn by_key(&self, shown: &CertificateDer<'_>) -> Option<Entry> {
        let content = self.content();
        let mut listed = content.entries.values();
        listed.find(|entry| entry.key.is_shown_as(shown)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn listed(nodes: &[(u64, [u8; 32], Role)]) -> BTreeMap<u64, Listed> {
        let nodes = nodes.iter().copied();
        nodes
            .map(|(id, key, role)| (id, Listed { key, role }))
            .collect()
    }

    #[test]
    fn connections_end_when_their_node_is_not_listed_or_has_another_key() {
        let [voter, learner] = [Role::Voter, Role::Learner];
        let before = listed(&[(1, KEY, learner), (2, KEY, voter), (3, KEY, voter)]);
        let directory = KeyDirectory::of(Footing::New, &before);
        let [stays, changes, goes] = [1, 2, 3].map(|id| directory.by_id(id).unwrap().unlisted);
        let after = listed(&[(1, KEY, voter), (2, OTHER, voter), (4, KEY, voter)]);
        directory.replace(Footing::Joined, &after);
        assert!(!stays.is_cancelled(), "another role is not another node");
        assert!(changes.is_cancelled());
        assert!(goes.is_cancelled());
        assert!(directory.by_id(3).is_none());
        let [first, second] = [1, 2].map(|id| directory.by_id(id).unwrap());
        assert!(!first.unlisted.is_cancelled() && !second.unlisted.is_cancelled());
        assert_eq!(first.role, voter);
        assert_eq!(second.key, Spki::of(&OTHER));
        assert_eq!(directory.footing(), Footing::Joined);
    }
}
