//! A command, parsed: canonical, with a header that makes sense.
//!
//! What fails here leaves no entry, because nobody can be named for it. What a body asks for is judged later, by the
//! machine, and answered with an entry.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::v1::{self, CompartmentKind, command::Body};

use crate::canonical;
use crate::compartment;
use crate::hash::Hash;
use crate::id::{Identity, RequestId};
use crate::limits::{
    MAX_SIGNATURES, MAX_SIGNED_CHUNK_LEN, MAX_SIGNED_COMMAND_LEN, MAX_SUBMISSION_LEN, MAX_TIME_US,
};
use crate::machine::Refusal;
use prost::Message;

/// What precedes a command's bytes in its digest.
const DIGEST_DOMAIN: &[u8] = b"countersign-command-digest-v1\0";

/// `BLAKE3("countersign-command-digest-v1\0" || command)`: what the ledger remembers of a request for ever.
#[must_use]
pub fn command_digest(command: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DIGEST_DOMAIN).update(command);
    Hash::from_bytes(*hasher.finalize().as_bytes())
}

/// A canonical command whose header is valid. The body is as received.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Names the entry, together with the author.
    pub request_id: RequestId,
    /// When its author made it, microseconds since 1970.
    pub issued_at_us: u64,
    /// Who speaks.
    pub author: Identity,
    /// Who signs beside the author, ascending.
    pub cosigners: Vec<Identity>,
    /// Commitments by kind.
    pub commitments: BTreeMap<CompartmentKind, v1::Commitment>,
    /// What is asked.
    pub body: Body,
    /// The digest of the command's bytes.
    pub digest: Hash,
}

impl Command {
    /// Parses the command inside a signed command.
    ///
    /// # Errors
    /// [`Refusal::Undecodable`] for bytes that are too long, not canonical, or whose header does not make sense.
    pub fn parse(signed: &v1::SignedCommand) -> Result<Self, Refusal> {
        let message: v1::Command = canonical::decode(&signed.command, MAX_SIGNED_CHUNK_LEN)
            .map_err(|_| Refusal::Undecodable)?;
        let body = message.body.ok_or(Refusal::Undecodable)?;
        let is_chunk = matches!(body, Body::PublishBundle(_));
        let limit = if is_chunk {
            MAX_SIGNED_CHUNK_LEN
        } else {
            MAX_SIGNED_COMMAND_LEN
        };
        if signed.encoded_len() > limit || message.issued_at_us > MAX_TIME_US {
            return Err(Refusal::Undecodable);
        }
        let author = message.author.as_ref().ok_or(Refusal::Undecodable)?;
        let author = Identity::parse(author).map_err(|_| Refusal::Undecodable)?;
        Ok(Self {
            request_id: RequestId::from_slice(&message.request_id)
                .map_err(|_| Refusal::Undecodable)?,
            issued_at_us: message.issued_at_us,
            cosigners: parse_cosigners(&message.cosigners, &author).ok_or(Refusal::Undecodable)?,
            author,
            commitments: parse_commitments(message.commitments, &body)?,
            body,
            digest: command_digest(&signed.command),
        })
    }

    /// Everybody who signs: the author, then the cosigners.
    pub fn signers(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&self.author).chain(&self.cosigners)
    }
}

/// The identities that a command names as its cosigners; none if they are not ascending, too many, the author again, or of
/// a kind that signs alone.
pub(crate) fn parse_cosigners(
    messages: &[v1::Identity],
    author: &Identity,
) -> Option<Vec<Identity>> {
    let mut cosigners: Vec<Identity> = Vec::with_capacity(messages.len());
    for message in messages {
        let identity = Identity::parse(message).ok()?;
        let ascending = cosigners.last().is_none_or(|last| *last < identity);
        // A node's signature is over another domain than everybody else's, and the recovery key speaks for itself only.
        let signs_beside = match identity {
            Identity::Operator(_) | Identity::Agent(_) | Identity::Gateway(_) => true,
            Identity::Node(_) | Identity::Recovery => false,
        };
        if !ascending || !signs_beside || identity == *author {
            return None;
        }
        cosigners.push(identity);
    }
    let alone = matches!(author, Identity::Node(_)) && !cosigners.is_empty();
    (cosigners.len() < MAX_SIGNATURES && !alone).then_some(cosigners)
}

/// Commitments must be ascending by kind, one of a kind, and of kinds that this body can have.
fn parse_commitments(
    commitments: Vec<v1::Commitment>,
    body: &Body,
) -> Result<BTreeMap<CompartmentKind, v1::Commitment>, Refusal> {
    let allowed = allowed_kinds(body);
    let mut parsed = BTreeMap::new();
    for commitment in commitments {
        let kind = CompartmentKind::try_from(commitment.kind).map_err(|_| Refusal::Undecodable)?;
        let ascending = parsed.last_key_value().is_none_or(|(last, _)| *last < kind);
        if !ascending || !allowed.contains(&kind) || commitment.digest.len() != 32 {
            return Err(Refusal::Undecodable);
        }
        parsed.insert(kind, commitment);
    }
    Ok(parsed)
}

/// The compartments that a command can have.
#[must_use]
pub const fn allowed_kinds(body: &Body) -> &'static [CompartmentKind] {
    match body {
        Body::Authorize(_) => &[CompartmentKind::Input, CompartmentKind::Resource],
        Body::Record(_) => &[CompartmentKind::Output, CompartmentKind::ExecutedInput],
        Body::OpenSession(_) => &[CompartmentKind::Context],
        Body::Redeem(_) | Body::Seal(_) | Body::DeclareSupport(_) | Body::AttestState(_) => &[],
        Body::CloseSession(_)
        | Body::RegisterAgent(_)
        | Body::UpdateAgent(_)
        | Body::RegisterGateway(_)
        | Body::UpdateGateway(_)
        | Body::SetStatus(_)
        | Body::AddKey(_)
        | Body::RetireKey(_)
        | Body::RegisterOperator(_)
        | Body::UpdateOperator(_)
        | Body::CreateNamespace(_)
        | Body::UpdateNamespace(_)
        | Body::SetHalt(_)
        | Body::ClearHalt(_)
        | Body::PublishBundle(_)
        | Body::ActivateBundle(_)
        | Body::Erase(_)
        | Body::UpdateMembership(_)
        | Body::ActivateEngine(_)
        | Body::ActivateCluster(_)
        | Body::AdjustTime(_)
        | Body::ReplaceAdmins(_) => &[CompartmentKind::Reason],
    }
}

/// Decodes a submission from the wire or the log.
///
/// # Errors
/// [`Refusal::Undecodable`] if it is too long, does not decode, or is not canonical.
pub fn decode_submission(bytes: &[u8]) -> Result<v1::Submission, Refusal> {
    canonical::decode(bytes, MAX_SUBMISSION_LEN).map_err(|_| Refusal::Undecodable)
}

/// True if each compartment is the only one of a kind that the command commits to. Any other is ignored when the command is
/// applied, so it is to be refused before it is replicated.
#[must_use]
pub fn are_committed_to(command: &Command, beside: &[v1::Compartment]) -> bool {
    let mut seen = BTreeSet::new();
    beside.iter().all(|compartment| {
        let kind = compartment.kind();
        command.commitments.contains_key(&kind) && seen.insert(kind)
    })
}

/// What became of the compartments that a command commits to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compartments {
    /// Present and matching, by kind.
    pub present: BTreeMap<CompartmentKind, v1::Compartment>,
    /// Committed to with a length over the limit.
    pub too_large: Vec<CompartmentKind>,
    /// Committed to, but what came does not match.
    pub mismatched: Vec<CompartmentKind>,
    /// Committed to, and nothing came.
    pub missing: Vec<CompartmentKind>,
    /// Kept when the command was applied before, and not at hand now: only whoever applies recorded commands again meets it.
    pub erased: Vec<CompartmentKind>,
}

impl Compartments {
    /// Compares what a command commits to with what travelled beside it. Compartments without a commitment are ignored:
    /// nobody signed for them.
    #[must_use]
    pub fn open(command: &Command, beside: &[v1::Compartment]) -> Self {
        let mut opened = Self::default();
        for (kind, commitment) in &command.commitments {
            let content = beside
                .iter()
                .find(|compartment| compartment.kind() == *kind);
            match content {
                _ if commitment.length > compartment::max_len(*kind) => {
                    opened.too_large.push(*kind)
                }
                None => opened.missing.push(*kind),
                Some(content) if compartment::matches(commitment, content) => {
                    opened.present.insert(*kind, content.clone());
                }
                Some(_) => opened.mismatched.push(*kind),
            }
        }
        opened
    }

    /// The same for a command whose entry is there already: what was kept then and does not come now is erased, not missing.
    #[must_use]
    pub fn reopen(command: &Command, beside: &[v1::Compartment], entry: &v1::Entry) -> Self {
        let mut opened = Self::open(command, beside);
        let kept = |kind: &CompartmentKind| entry.stored.contains(&i32::from(*kind));
        let (erased, absent) = opened.missing.into_iter().partition(kept);
        opened.erased = erased;
        opened.missing = absent;
        // Content that never matched was not kept either; only an outcome tells it from content that never came.
        let never_matched = matches!(&entry.body, Some(v1::entry::Body::Outcome(outcome))
            if outcome.notices().any(|notice| notice == v1::Notice::ContentNotKept));
        if never_matched {
            opened.mismatched.append(&mut opened.missing);
        }
        opened
    }

    /// What is kept beside the entry, ascending.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<CompartmentKind> {
        self.present.keys().chain(&self.erased).copied().collect()
    }

    /// True if every commitment has its content, or had it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.too_large.is_empty() && self.mismatched.is_empty() && self.missing.is_empty()
    }

    /// The content of one kind.
    #[must_use]
    pub fn content(&self, kind: CompartmentKind) -> Option<&[u8]> {
        self.present
            .get(&kind)
            .map(|compartment| compartment.content.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RequestId;

    fn beside(kind: CompartmentKind) -> v1::Compartment {
        v1::Compartment {
            kind: kind.into(),
            ..v1::Compartment::default()
        }
    }

    #[test]
    fn compartments_beside_a_command_answer_one_commitment_each() {
        use CompartmentKind::{Input, Output, Resource, Unspecified};
        let commitment = |kind| (kind, compartment::commit(kind, &[1; 32], b""));
        let command = Command {
            request_id: RequestId::from_bytes([1; 16]),
            issued_at_us: 1,
            author: Identity::Agent("bot".to_owned()),
            cosigners: Vec::new(),
            commitments: BTreeMap::from([Input, Resource].map(commitment)),
            body: Body::Authorize(v1::Authorize::default()),
            digest: command_digest(b""),
        };
        for (kinds, fits) in [
            (vec![], true),
            (vec![Input], true),
            (vec![Resource, Input], true),
            (vec![Input, Input], false),
            (vec![Input, Output], false),
            (vec![Unspecified], false),
        ] {
            let sent: Vec<_> = kinds.iter().copied().map(beside).collect();
            assert_eq!(are_committed_to(&command, &sent), fits, "{kinds:?}");
        }
        let unknown = v1::Compartment {
            kind: 99,
            ..v1::Compartment::default()
        };
        assert!(!are_committed_to(&command, &[unknown]));
    }
}
