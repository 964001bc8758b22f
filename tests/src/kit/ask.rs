//! What somebody asks, before it is signed.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, command::Body};

/// The key of a name: the same name has the same key in every run.
#[must_use]
pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes())
}

/// What somebody asks: author, co-signers, body, compartments, and what else can be set.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Who speaks.
    pub author: Identity,
    /// Who else signs.
    pub cosigners: Vec<Identity>,
    /// What is asked.
    pub body: Body,
    /// Content by kind.
    pub contents: BTreeMap<v1::CompartmentKind, Vec<u8>>,
}

impl Ask {
    /// A command by this author, without compartments.
    #[must_use]
    pub fn new(author: Identity, body: Body) -> Self {
        Self {
            author,
            cosigners: Vec::new(),
            body,
            contents: BTreeMap::new(),
        }
    }

    /// With one more signature.
    #[must_use]
    pub fn cosigned(mut self, by: Identity) -> Self {
        self.cosigners.push(by);
        self
    }

    /// With a compartment.
    #[must_use]
    pub fn with(mut self, kind: v1::CompartmentKind, content: &[u8]) -> Self {
        self.contents.insert(kind, content.to_vec());
        self
    }
}

/// Cosigners as a command names them.
#[must_use]
pub fn cosigners_field(cosigners: &[Identity]) -> Vec<v1::Identity> {
    let mut sorted = cosigners.to_vec();
    sorted.sort();
    sorted.iter().map(Identity::to_message).collect()
}

/// The body of an Authorize for a tool written "server/name" or "name".
#[must_use]
pub fn authorize_body(agent: &str, session: SessionId, tool: &str) -> Body {
    let (server, name) = tool.split_once('/').unwrap_or(("", tool));
    Body::Authorize(v1::Authorize {
        agent: agent.to_owned(),
        session_id: session.to_vec(),
        tool: Some(v1::Tool {
            server: server.to_owned(),
            name: name.to_owned(),
            definition_digest: Vec::new(),
        }),
        ..v1::Authorize::default()
    })
}
