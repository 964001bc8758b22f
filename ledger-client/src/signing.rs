//! Who speaks: an identity with its key, and those who sign beside it. Makes commands, compartments and read signatures.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ledger_core::compartment::{commit, max_len};
use ledger_core::id::{Identity, KeyId};
use ledger_core::keys::PublicKey;
use ledger_core::signature::{SignatureDomain, read_message, sign_batch};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use prost::Message;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::error::Error;
use crate::key_file::KeyFile;
use crate::sending::{self, FirstSending};

/// Bytes of a salt.
pub(crate) const SALT_LEN: usize = 32;

/// Something that can sign, shared between tasks.
pub type SharedSigner = Arc<dyn Signer + Send + Sync>;

/// An identity with its key.
#[derive(Clone)]
pub struct Author {
    /// Who.
    pub identity: Identity,
    key_id: KeyId,
    signer: SharedSigner,
}

impl std::fmt::Debug for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Author").field(&self.identity).finish()
    }
}

impl Author {
    /// An identity with a signer that holds one of its keys.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the key is weak.
    pub fn new(identity: Identity, signer: SharedSigner) -> Result<Self, Error> {
        let public = PublicKey::from_bytes(&signer.public_key())
            .map_err(|error| Error::Configuration(error.to_string()))?;
        Ok(Self {
            identity,
            key_id: public.key_id(),
            signer,
        })
    }

    /// The identity that a key file names.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the file does not say whose key it is.
    pub fn of_file(file: KeyFile, path: &std::path::Path) -> Result<Self, Error> {
        let identity = file.identity().cloned().ok_or_else(|| {
            Error::Configuration(format!(
                "{} does not say whose key it is; put a line such as `identity: operator:ada` before the key",
                path.display()
            ))
        })?;
        Self::new(identity, Arc::new(file))
    }
}

/// Content that travels beside a command, with the salt of its commitment.
#[derive(Debug, Clone)]
pub struct Content {
    /// What it is.
    pub kind: CompartmentKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its salt; random if none is given.
    pub salt: Option<[u8; SALT_LEN]>,
}

impl Content {
    /// Content with a new salt.
    #[must_use]
    pub fn new(kind: CompartmentKind, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            bytes: bytes.into(),
            salt: None,
        }
    }
}

/// A command that is signed and can be sent, as often as needed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Its request id.
    pub request_id: [u8; 16],
    /// What is sent.
    pub submission: v1::Submission,
    /// When it was sent first.
    pub(crate) sending: FirstSending,
}

impl Signed {
    /// The bytes that keep the request over the end of this process. Keep them before it is sent: they hold the moment of the
    /// first sending, which is now unless it was sent before, and a yes is counted from there.
    #[must_use]
    pub fn to_kept_bytes(&self) -> Vec<u8> {
        sending::to_kept(&self.submission, &self.sending)
    }

    /// The request that [`Signed::to_kept_bytes`] kept, with the moment of its first sending.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the bytes are damaged.
    pub fn from_kept_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (submission, sending) = sending::from_kept(bytes)?;
        let damaged = || Error::Configuration("the kept request is damaged".to_owned());
        let signed = submission.signed.as_ref().ok_or_else(damaged)?;
        let command = v1::Command::decode(signed.command.as_slice()).map_err(|_| damaged())?;
        Ok(Self {
            request_id: command.request_id.try_into().map_err(|_| damaged())?,
            submission,
            sending,
        })
    }

    /// When its author made it, microseconds since 1970; 0 if it is no command.
    pub(crate) fn issued_at_us(&self) -> u64 {
        v1::Command::decode(self.command()).map_or(0, |command| command.issued_at_us)
    }

    /// The command's bytes.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        self.submission
            .signed
            .as_ref()
            .map_or(&[], |signed| signed.command.as_slice())
    }

    /// The request id in hexadecimal digits.
    #[must_use]
    pub fn request_id_hex(&self) -> String {
        hex::encode(self.request_id)
    }

    /// The salt of a compartment.
    #[must_use]
    pub fn salt(&self, kind: CompartmentKind) -> Option<[u8; SALT_LEN]> {
        let mut all = self.submission.compartments.iter();
        let found = all.find(|compartment| compartment.kind() == kind)?;
        found.salt.as_slice().try_into().ok()
    }
}

/// What to ask: a body with its content.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The command.
    pub body: Body,
    /// What travels beside it, at most one of a kind.
    pub contents: Vec<Content>,
    /// The request id to use; random if none is given.
    pub request_id: Option<[u8; 16]>,
}

impl From<Body> for Ask {
    fn from(body: Body) -> Self {
        Self {
            body,
            contents: Vec::new(),
            request_id: None,
        }
    }
}

impl Ask {
    /// The same with content beside it.
    #[must_use]
    pub fn with(mut self, content: Content) -> Self {
        self.contents.push(content);
        self
    }
}

/// Signs up to 64 commands with one signature of each signer.
pub(crate) fn sign(
    origin: &str,
    author: &Author,
    cosigners: &[Author],
    asks: Vec<Ask>,
) -> Result<Vec<Signed>, Error> {
    let mut cosigners: Vec<&Author> = cosigners.iter().collect();
    cosigners.sort_by_key(|by| (i32::from(by.identity.kind()), by.identity.id()));
    let mut unsigned = Vec::with_capacity(asks.len());
    for ask in asks {
        unsigned.push(prepare(&author.identity, &cosigners, ask)?);
    }
    let commands: Vec<&[u8]> = unsigned
        .iter()
        .map(|(_, command, _)| command.as_slice())
        .collect();
    let mut signatures: Vec<Vec<v1::Signature>> = vec![Vec::new(); commands.len()];
    let domain = SignatureDomain::of(&author.identity);
    for by in std::iter::once(author).chain(cosigners) {
        let made = sign_batch(domain, origin, &commands, by.key_id, &*by.signer)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        for (all, one) in signatures.iter_mut().zip(made) {
            all.push(one);
        }
    }
    let signed = unsigned.into_iter().zip(signatures);
    Ok(signed
        .map(|((request_id, command, compartments), mut signatures)| {
            signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
            Signed {
                request_id,
                submission: v1::Submission {
                    signed: Some(v1::SignedCommand {
                        command,
                        signatures,
                    }),
                    compartments,
                },
                sending: FirstSending::default(),
            }
        })
        .collect())
}

/// A command without signatures.
pub(crate) fn unsigned(author: &Identity, ask: Ask) -> Result<v1::Submission, Error> {
    let (_, command, compartments) = prepare(author, &[], ask)?;
    Ok(v1::Submission {
        signed: Some(v1::SignedCommand {
            command,
            signatures: Vec::new(),
        }),
        compartments,
    })
}

type Unsigned = ([u8; 16], Vec<u8>, Vec<v1::Compartment>);

fn prepare(author: &Identity, cosigners: &[&Author], ask: Ask) -> Result<Unsigned, Error> {
    let request_id = match ask.request_id {
        Some(id) => id,
        None => random()?,
    };
    let mut contents = ask.contents;
    contents.sort_by_key(|content| i32::from(content.kind));
    let mut commitments = Vec::with_capacity(contents.len());
    let mut compartments = Vec::with_capacity(contents.len());
    for content in contents {
        let salt = match content.salt {
            Some(salt) => salt,
            None => random()?,
        };
        commitments.push(commit(content.kind, &salt, &content.bytes));
        // The ledger decides about content past its limit by the length that the commitment states.
        if u64::try_from(content.bytes.len()).unwrap_or(u64::MAX) > max_len(content.kind) {
            continue;
        }
        compartments.push(v1::Compartment {
            kind: content.kind.into(),
            salt: salt.to_vec(),
            content: content.bytes,
        });
    }
    let command = v1::Command {
        request_id: request_id.to_vec(),
        issued_at_us: now_us(),
        author: Some(author.to_message()),
        commitments,
        cosigners: cosigners
            .iter()
            .map(|by| by.identity.to_message())
            .collect(),
        body: Some(ask.body),
    };
    Ok((request_id, command.encode_to_vec(), compartments))
}

/// A read with its signature.
pub(crate) fn signed_read<Q: Message>(
    origin: &str,
    reader: &Author,
    method: &str,
    message: Q,
) -> Result<Request<Q>, Error> {
    let nonce: [u8; 16] = random()?;
    let time_us = now_us();
    let covered = read_message(origin, method, time_us, &nonce, &message.encode_to_vec());
    let signature = reader.signer.sign(&covered);
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    let binary = MetadataValue::from_bytes;
    metadata.insert_bin("countersign-key-id-bin", binary(&reader.key_id.to_vec()));
    metadata.insert("countersign-time-us", MetadataValue::from(time_us));
    metadata.insert_bin("countersign-nonce-bin", binary(&nonce));
    metadata.insert_bin("countersign-signature-bin", binary(&signature));
    Ok(request)
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Internal(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// This machine's clock in microseconds since 1970.
#[must_use]
pub fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
