//! The one form in which commands are signed: alone, or many under one signature.
//!
//! A signature covers the root of the RFC 6962 tree (BLAKE3) over the bytes of a batch of 1 to 64 commands. Each command
//! carries its own path to that root, so that it can be checked without the others.

use ledger_proto::v1;
use thiserror::Error;

use crate::hash::Hash;
use crate::id::{Identity, KeyId};
use crate::keys::{PublicKey, push_str};
use crate::limits::MAX_SIGNATURES;
use crate::signer::Signer;
use crate::tree::batch::{BatchError, batch_path, batch_root, batch_root_from_path};

/// Who speaks decides what precedes the message, so that a node's key can never sign for a client or the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureDomain {
    /// Operators, agents, gateways, the recovery key.
    Command,
    /// Nodes.
    Node,
}

impl SignatureDomain {
    /// The domain for commands of this author.
    #[must_use]
    pub const fn of(author: &Identity) -> Self {
        match author {
            Identity::Node(_) => Self::Node,
            Identity::Operator(_)
            | Identity::Agent(_)
            | Identity::Gateway(_)
            | Identity::Recovery => Self::Command,
        }
    }

    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Command => b"countersign-command-v1\0",
            Self::Node => b"countersign-node-v1\0",
        }
    }
}

/// The bytes that are signed: `domain || u16be(len origin) || origin || u32be(size) || root`.
#[must_use]
pub fn signing_message(domain: SignatureDomain, origin: &str, size: u32, root: &Hash) -> Vec<u8> {
    let mut message = domain.prefix().to_vec();
    push_str(&mut message, origin);
    message.extend_from_slice(&size.to_be_bytes());
    message.extend_from_slice(root.as_bytes());
    message
}

/// The bytes that a read signs, as `call.proto` says: `method` is the full gRPC path, `request` the canonical encoding of the
/// request message, `time_us` is in microseconds since 1970.
#[must_use]
pub fn read_message(
    origin: &str,
    method: &str,
    time_us: u64,
    nonce: &[u8; 16],
    request: &[u8],
) -> Vec<u8> {
    let mut message = b"countersign-read-v1\0".to_vec();
    push_str(&mut message, origin);
    push_str(&mut message, method);
    message.extend_from_slice(&time_us.to_be_bytes());
    message.extend_from_slice(nonce);
    message.extend_from_slice(blake3::hash(request).as_bytes());
    message
}

/// The bytes that a node signs when it votes for a candidate in a term of the replicas of one ledger:
/// `domain || genesis || u64be(voter) || u64be(term) || u64be(candidate)`.
#[must_use]
pub fn vote_message(genesis: &Hash, voter: u64, term: u64, candidate: u64) -> Vec<u8> {
    let mut message = b"countersign-vote-v1\0".to_vec();
    message.extend_from_slice(genesis.as_bytes());
    for number in [voter, term, candidate] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message
}

/// Signs a batch of commands with one signature. Returns one signature message per command, in order.
///
/// # Errors
/// [`BatchError`] unless there are 1 to 64 commands.
pub fn sign_batch(
    domain: SignatureDomain,
    origin: &str,
    commands: &[&[u8]],
    key_id: KeyId,
    signer: &dyn Signer,
) -> Result<Vec<v1::Signature>, BatchError> {
    let root = batch_root(commands)?;
    let size = u32::try_from(commands.len()).map_err(|_| BatchError::Size(u64::MAX))?;
    let signature = signer.sign(&signing_message(domain, origin, size, &root));
    (0..size)
        .zip(0_usize..)
        .map(|(batch_index, position)| {
            let path = batch_path(commands, position)?;
            Ok(v1::Signature {
                key_id: key_id.to_vec(),
                signature: signature.to_vec(),
                batch_index,
                batch_size: size,
                path: path.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
            })
        })
        .collect()
}

/// Signs one command.
///
/// # Errors
/// [`BatchError`], which one command never causes.
pub fn sign_one(
    domain: SignatureDomain,
    origin: &str,
    command: Vec<u8>,
    keys: &[(KeyId, &dyn Signer)],
) -> Result<v1::SignedCommand, BatchError> {
    let mut signatures = Vec::with_capacity(keys.len());
    for (key_id, signer) in keys {
        signatures.extend(sign_batch(domain, origin, &[&command], *key_id, *signer)?);
    }
    signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    Ok(v1::SignedCommand {
        command,
        signatures,
    })
}

/// Why the signatures of a command cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureFormError {
    /// None, or more than four.
    #[error("a command has 1 to {MAX_SIGNATURES} signatures")]
    Count,
    /// Not ascending by key id, or one key twice.
    #[error("signatures must be ascending by key id, each key once")]
    Order,
    /// A length or batch position is not possible.
    #[error("a key id has 16 bytes, a signature 64, and the path must fit the batch position")]
    Shape,
}

/// One signature, well-formed, with the message it should be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedSignature {
    /// The key that should have made it.
    pub key_id: KeyId,
    signature: Vec<u8>,
    message: Vec<u8>,
}

impl ParsedSignature {
    /// True if the key made this signature over this command, in this ledger, at this batch position.
    #[must_use]
    pub fn verify(&self, key: &PublicKey) -> bool {
        key.verify(&self.message, &self.signature)
    }
}

/// Checks the form of a command's signatures and computes what each is over.
///
/// # Errors
/// [`SignatureFormError`]
pub fn parse_signatures(
    domain: SignatureDomain,
    origin: &str,
    signed: &v1::SignedCommand,
) -> Result<Vec<ParsedSignature>, SignatureFormError> {
    if signed.signatures.is_empty() || signed.signatures.len() > MAX_SIGNATURES {
        return Err(SignatureFormError::Count);
    }
    let ascending = signed.signatures.windows(2).all(|pair| match pair {
        [a, b] => a.key_id < b.key_id,
        _ => true,
    });
    if !ascending {
        return Err(SignatureFormError::Order);
    }
    signed
        .signatures
        .iter()
        .map(|signature| parse_signature(domain, origin, &signed.command, signature))
        .collect()
}

fn parse_signature(
    domain: SignatureDomain,
    origin: &str,
    command: &[u8],
    signature: &v1::Signature,
) -> Result<ParsedSignature, SignatureFormError> {
    let shape = SignatureFormError::Shape;
    let key_id = KeyId::from_slice(&signature.key_id).map_err(|_| shape)?;
    if signature.signature.len() != 64 {
        return Err(shape);
    }
    let path: Vec<Hash> = signature
        .path
        .iter()
        .map(|hash| Hash::from_slice(hash))
        .collect::<Option<_>>()
        .ok_or(shape)?;
    let root = batch_root_from_path(command, signature.batch_index, signature.batch_size, &path)
        .map_err(|_| shape)?;
    Ok(ParsedSignature {
        key_id,
        signature: signature.signature.clone(),
        message: signing_message(domain, origin, signature.batch_size, &root),
    })
}
