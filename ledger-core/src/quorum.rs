//! The trust policy of a ledger as its tools make it: so many of its nodes, and, if there are any, so many witnesses outside.
//!
//! A lying leader, or two crashes and a restored disk, can have two trees cosigned by quorums that share too few sound nodes. A
//! larger quorum of nodes makes them share more; a witness outside has seen the first tree and refuses the second.

use std::collections::BTreeSet;

use crate::card::NodeFile;
use crate::keys::PublicKey;
use crate::note::tlog_policy::{PolicyWitness, TlogPolicy};
use crate::note::vkey::{KeyType, VerifierKey};

/// The group of the nodes.
const NODES: &str = "nodes";
/// The group of the witnesses outside.
const WITNESSES: &str = "witnesses";
/// The group of both groups.
const TRUST: &str = "trust";

/// How many nodes must cosign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeQuorum {
    /// More than half of however many there are.
    #[default]
    Majority,
    /// So many.
    Count(usize),
    /// So many that any two quorums share at least this number of nodes.
    Shared(usize),
}

impl NodeQuorum {
    /// The number of cosignatures among so many nodes.
    ///
    /// # Errors
    /// A count of half of the nodes or less, or of more than there are.
    pub fn threshold(self, nodes: usize) -> Result<usize, String> {
        let majority = nodes / 2 + 1;
        match self {
            Self::Majority => Ok(majority),
            Self::Count(count) if (majority..=nodes).contains(&count) => Ok(count),
            Self::Count(count) => Err(format!(
                "a quorum of {count} of {nodes} nodes cannot be: with fewer than {majority} two trees could be cosigned by nodes that have none in common, and {nodes} is all there are"
            )),
            Self::Shared(shared) => Ok((nodes + shared).div_ceil(2).clamp(majority, nodes)),
        }
    }

    /// The rule that gave a number, for other numbers of nodes: what was a majority stays one, and what was more goes on sharing
    /// as many nodes.
    const fn of(threshold: usize, nodes: usize) -> Self {
        if threshold == nodes / 2 + 1 {
            Self::Majority
        } else {
            Self::Shared((2 * threshold).saturating_sub(nodes))
        }
    }
}

/// What a trust policy asks for, apart from who the nodes are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quorum {
    /// How many nodes.
    pub nodes: NodeQuorum,
    /// The witnesses outside, each with where to reach it.
    pub witnesses: Vec<PolicyWitness>,
    /// How many of those; none for more than half.
    pub witness_count: Option<usize>,
}

impl Quorum {
    /// What a policy asks for that these tools have made.
    ///
    /// # Errors
    /// It has another form.
    pub fn of_policy(policy: &TlogPolicy) -> Result<Self, String> {
        let other = || {
            "the trust policy in force has another form than these tools make; change the nodes with a policy written by hand"
                .to_owned()
        };
        let (threshold, nodes) = policy.group(NODES).ok_or_else(other)?;
        let (witness_count, names) = policy.group(WITNESSES).unzip();
        let names: BTreeSet<&str> = names.unwrap_or_default().into_iter().collect();
        let witnesses = policy.witnesses().iter();
        let witnesses = witnesses.filter(|witness| names.contains(witness.name.as_str()));
        let quorum = Self {
            nodes: NodeQuorum::of(threshold, nodes.len()),
            witnesses: witnesses.cloned().collect(),
            witness_count,
        };
        let (log, cards) = (policy.logs(), policy.witnesses().iter());
        let cards = cards.filter(|witness| !names.contains(witness.name.as_str()));
        let cards: Vec<&PolicyWitness> = cards.collect();
        let [log] = log else { return Err(other()) };
        let made = quorum.write(&log.key, &cards);
        if made.is_ok_and(|made| made == policy.to_string()) {
            Ok(quorum)
        } else {
            Err(other())
        }
    }

    /// The trust policy of these nodes, in canonical form.
    ///
    /// # Errors
    /// A card, the origin, a number or a witness is not valid.
    pub fn policy(
        &self,
        origin: &str,
        log: &PublicKey,
        nodes: &[NodeFile],
    ) -> Result<String, String> {
        let log = VerifierKey::new(origin, KeyType::Ed25519, *log)
            .map_err(|error| format!("the origin `{origin}` cannot name keys: {error}"))?;
        let nodes: Vec<PolicyWitness> = nodes
            .iter()
            .map(|node| {
                let key = VerifierKey::parse(&node.vkey)
                    .map_err(|error| format!("the vkey of node {}: {error}", node.node_id))?;
                Ok(PolicyWitness {
                    name: format!("node-{}", node.node_id),
                    key,
                    url: None,
                })
            })
            .collect::<Result<_, String>>()?;
        for witness in &self.witnesses {
            check_witness(witness)?;
        }
        self.write(&log, &nodes.iter().collect::<Vec<_>>())
    }

    fn write(&self, log: &VerifierKey, nodes: &[&PolicyWitness]) -> Result<String, String> {
        let mut text = format!("log {log}\n");
        for witness in nodes.iter().copied().chain(&self.witnesses) {
            text.push_str(&format!("witness {} {}", witness.name, witness.key));
            if let Some(url) = &witness.url {
                text.push_str(&format!(" {url}"));
            }
            text.push('\n');
        }
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let threshold = self.nodes.threshold(nodes.len())?;
        text.push_str(&format!("group {NODES} {threshold} {}\n", names.join(" ")));
        if self.witnesses.is_empty() {
            text.push_str(&format!("quorum {NODES}\n"));
        } else {
            let count = self.witness_threshold()?;
            let names = self.witnesses.iter().map(|witness| witness.name.as_str());
            let names: Vec<&str> = names.collect();
            text.push_str(&format!(
                "group {WITNESSES} {count} {}\ngroup {TRUST} all {NODES} {WITNESSES}\nquorum {TRUST}\n",
                names.join(" ")
            ));
        }
        TlogPolicy::parse(text.as_bytes())
            .map(|policy| policy.to_string())
            .map_err(|error| format!("this does not make a trust policy: {error}"))
    }

    /// How many witnesses must cosign: with half of them or fewer, each of two trees could have its own.
    fn witness_threshold(&self) -> Result<usize, String> {
        let all = self.witnesses.len();
        let majority = all / 2 + 1;
        let count = self.witness_count.unwrap_or(majority);
        if (majority..=all).contains(&count) {
            Ok(count)
        } else {
            Err(format!(
                "{count} of {all} witnesses cannot be asked for: it takes {majority} to {all}, so that two trees never have witnesses without one in common"
            ))
        }
    }
}

/// A witness outside, from the three words that name it in a trust policy.
///
/// # Errors
/// What is wrong with them.
fn witness(name: &str, vkey: &str, url: &str) -> Result<PolicyWitness, String> {
    let key = VerifierKey::parse(vkey)
        .map_err(|error| format!("the vkey of the witness {name}: {error}"))?;
    let witness = PolicyWitness {
        name: name.to_owned(),
        key,
        url: Some(url.to_owned()),
    };
    check_witness(&witness)?;
    Ok(witness)
}

/// Witnesses outside from the words of a command line, three for each.
///
/// # Errors
/// What is wrong with one of them.
pub fn witnesses_of(words: &[String]) -> Result<Vec<PolicyWitness>, String> {
    let each = words.chunks(3).map(|words| match words {
        [name, vkey, url] => witness(name, vkey, url),
        _ => Err("a witness has a name, a vkey and a URL".to_owned()),
    });
    each.collect()
}

/// Checks what a trust policy does not ask of a witness, and a ledger that has to reach it does.
fn check_witness(witness: &PolicyWitness) -> Result<(), String> {
    let name = &witness.name;
    if witness.key.key_type() != KeyType::CosignatureV1 {
        return Err(format!(
            "the vkey of the witness {name} is not a cosigner's"
        ));
    }
    let url = witness.url.as_deref().unwrap_or_default();
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let is_url = rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '#' && c != '?')
    });
    if is_url {
        Ok(())
    } else {
        Err(format!(
            "the URL of the witness {name} must begin with https:// or http:// and have neither a query nor a fragment"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::Signer as _;
    use ed25519_dalek::SigningKey;

    const ORIGIN: &str = "ledger.test/prod";

    fn public(seed: u8) -> PublicKey {
        let key = SigningKey::from_bytes(&[seed; 32]);
        PublicKey::from_bytes(&key.public_key()).unwrap()
    }

    fn nodes(count: u8) -> Vec<NodeFile> {
        let card = |id: u8| NodeFile::new(ORIGIN, id.into(), &public(id), "h:1", "h:2").unwrap();
        (1..=count).map(card).collect()
    }

    fn outside(seed: u8) -> PolicyWitness {
        let name = format!("w{seed}.test");
        let key = VerifierKey::new(&name, KeyType::CosignatureV1, public(seed)).unwrap();
        witness(
            &format!("w{seed}"),
            &key.to_string(),
            &format!("http://127.0.0.1:{seed}/w"),
        )
        .unwrap()
    }

    fn made(quorum: &Quorum, count: u8) -> Result<TlogPolicy, String> {
        let text = quorum.policy(ORIGIN, &public(99), &nodes(count))?;
        Ok(TlogPolicy::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn without_more_it_is_a_majority_of_the_nodes() {
        for count in 1..=9 {
            let policy = made(&Quorum::default(), count).unwrap();
            let text = policy.to_string();
            assert!(text.ends_with("quorum nodes\n"), "{text}");
            assert_eq!(policy.group("nodes").unwrap().0, usize::from(count) / 2 + 1);
            assert_eq!(Quorum::of_policy(&policy), Ok(Quorum::default()));
        }
    }

    #[test]
    fn a_quorum_is_more_than_half_and_goes_on_sharing_as_many() {
        for (of, count, allowed) in [
            (3, 1, false),
            (3, 2, true),
            (3, 3, true),
            (3, 4, false),
            (4, 2, false),
            (4, 3, true),
            (5, 3, true),
            (1, 0, false),
        ] {
            let quorum = Quorum {
                nodes: NodeQuorum::Count(count),
                ..Quorum::default()
            };
            let policy = made(&quorum, of);
            assert_eq!(policy.is_ok(), allowed, "{count} of {of}: {policy:?}");
        }
        for (count, of, then, becomes) in [
            (3, 3, 4, 4),
            (3, 3, 5, 4),
            (4, 5, 6, 5),
            (4, 5, 4, 4),
            (4, 5, 3, 3),
            (3, 4, 5, 3),
            (2, 3, 9, 5),
        ] {
            let quorum = Quorum {
                nodes: NodeQuorum::Count(count),
                ..Quorum::default()
            };
            let before = made(&quorum, of).unwrap();
            let after = made(&Quorum::of_policy(&before).unwrap(), then).unwrap();
            let threshold = after.group("nodes").unwrap().0;
            assert_eq!(threshold, becomes, "{count} of {of}, then {then}");
        }
    }

    #[test]
    fn witnesses_are_asked_for_beside_the_nodes_and_stay() {
        let quorum = Quorum {
            witnesses: vec![outside(50), outside(51), outside(52)],
            ..Quorum::default()
        };
        let policy = made(&quorum, 3).unwrap();
        let meets = |names: &[&str]| policy.is_met_by(|w| names.contains(&w.name.as_str()));
        assert!(meets(&["node-1", "node-3", "w50", "w52"]));
        assert!(!meets(&["node-1", "node-2", "node-3", "w50"]));
        assert!(!meets(&["node-1", "w50", "w51", "w52"]));

        let kept = Quorum::of_policy(&policy).unwrap();
        assert_eq!(kept.witnesses, quorum.witnesses);
        let larger = made(&kept, 4).unwrap();
        assert_eq!(larger.group("witnesses").unwrap().0, 2);
        assert_eq!(larger.group("trust").unwrap().1, ["nodes", "witnesses"]);

        for (count, allowed) in [(1, false), (2, true), (3, true), (4, false)] {
            let quorum = Quorum {
                witness_count: Some(count),
                ..quorum.clone()
            };
            assert_eq!(made(&quorum, 3).is_ok(), allowed, "{count} of 3");
        }
        let twice = Quorum {
            witnesses: vec![outside(50), outside(50)],
            ..Quorum::default()
        };
        assert!(made(&twice, 3).unwrap_err().contains("already"));
    }

    #[test]
    fn a_witness_has_a_cosigners_key_and_a_url() {
        let vkey = outside(50).key.to_string();
        let log = VerifierKey::new("w", KeyType::Ed25519, public(50)).unwrap();
        for (vkey, url) in [
            (vkey.as_str(), "127.0.0.1:80"),
            (&vkey, "ftp://h/"),
            (&vkey, "http://"),
            (&vkey, "http://h/?a"),
            (&vkey, "http://h/#a"),
            (&vkey, "http://h /"),
            (&log.to_string(), "http://h"),
            ("w+00000000+AAAA", "http://h"),
        ] {
            assert!(witness("w", vkey, url).is_err(), "{vkey} {url}");
        }
    }

    #[test]
    fn a_policy_of_another_form_is_not_taken_for_ours() {
        let policy = made(&Quorum::default(), 3).unwrap().to_string();
        for (from, to) in [
            ("group nodes 2", "group nodes any"),
            ("quorum nodes", "quorum node-1"),
            (" nodes", " people"),
        ] {
            let text = policy.replace(from, to);
            let other = TlogPolicy::parse(text.as_bytes()).unwrap();
            assert!(Quorum::of_policy(&other).is_err(), "{text}");
        }
    }
}
