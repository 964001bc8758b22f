//! Names and ids that have been checked once and are trusted afterwards.

use std::fmt;

use ledger_proto::v1;
use thiserror::Error;

use crate::limits::{MAX_ID_LEN, MAX_NAMESPACE_LEN};

/// An id or name is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// It is empty.
    #[error("an id must not be empty")]
    Empty,
    /// It is too long.
    #[error("an id has at most {0} bytes")]
    TooLong(usize),
    /// It holds a control character.
    #[error("an id must not hold control characters")]
    Control,
    /// It holds a character that names of this kind do not have.
    #[error("a namespace is made of a-z, 0-9, `-`, `_`, `.` and `/`")]
    Character,
    /// It has another length than its kind demands.
    #[error("this id has exactly {0} bytes")]
    Length(usize),
    /// The kind of identity is not stated.
    #[error("the kind of identity is not stated")]
    Kind,
}

/// Checks an id of an operator, agent or gateway, or any other name of at most `max` bytes: not empty, no control
/// characters. ARNs and SPIFFE ids pass. Ids are compared byte by byte and never normalized.
///
/// # Errors
/// [`IdError`]
pub fn check_text(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    check_optional_text(text, max)
}

/// Like [`check_text`], but the text may be empty.
///
/// # Errors
/// [`IdError`]
pub fn check_optional_text(text: &str, max: usize) -> Result<(), IdError> {
    if text.len() > max {
        return Err(IdError::TooLong(max));
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
}

/// Checks the name of a namespace.
///
/// # Errors
/// [`IdError`]
pub fn check_namespace(name: &str) -> Result<(), IdError> {
    check_text(name, MAX_NAMESPACE_LEN)?;
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_./".contains(&byte);
    if name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(IdError::Character)
    }
}

macro_rules! bytes16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From exactly 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From a slice.
            ///
            /// # Errors
            /// [`IdError::Length`] unless the slice has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length(16))
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The 16 bytes, owned, as messages carry them.
            #[must_use]
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

bytes16! {
    /// Names at most one entry of its author, for ever. Made by the client, at random.
    RequestId
}
bytes16! {
    /// A session: the request id of its opening.
    SessionId
}
bytes16! {
    /// The short name of a public key; see [`crate::keys::PublicKey::key_id`].
    KeyId
}

/// An identity that can sign.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// An operator, by id.
    Operator(String),
    /// An agent, by id.
    Agent(String),
    /// A gateway, by id.
    Gateway(String),
    /// A node, by number.
    Node(u64),
    /// The recovery key of the genesis.
    Recovery,
}

/// The id of the one identity of kind recovery.
const RECOVERY_ID: &str = "recovery";

impl Identity {
    /// Parses an identity from its message.
    ///
    /// # Errors
    /// [`IdError`]
    pub fn parse(message: &v1::Identity) -> Result<Self, IdError> {
        let id = || check_text(&message.id, MAX_ID_LEN).map(|()| message.id.clone());
        match message.kind() {
            v1::IdentityKind::Unspecified => Err(IdError::Kind),
            v1::IdentityKind::Operator => Ok(Self::Operator(id()?)),
            v1::IdentityKind::Agent => Ok(Self::Agent(id()?)),
            v1::IdentityKind::Gateway => Ok(Self::Gateway(id()?)),
            v1::IdentityKind::Node => {
                let node: u64 = message.id.parse().map_err(|_| IdError::Kind)?;
                // One spelling only: "7", never "07" or "+7".
                if node.to_string() == message.id {
                    Ok(Self::Node(node))
                } else {
                    Err(IdError::Kind)
                }
            }
            v1::IdentityKind::Recovery if message.id == RECOVERY_ID => Ok(Self::Recovery),
            v1::IdentityKind::Recovery => Err(IdError::Kind),
        }
    }

    /// The kind, as messages have it.
    #[must_use]
    pub const fn kind(&self) -> v1::IdentityKind {
        match self {
            Self::Operator(_) => v1::IdentityKind::Operator,
            Self::Agent(_) => v1::IdentityKind::Agent,
            Self::Gateway(_) => v1::IdentityKind::Gateway,
            Self::Node(_) => v1::IdentityKind::Node,
            Self::Recovery => v1::IdentityKind::Recovery,
        }
    }

    /// The id, as messages have it.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Operator(id) | Self::Agent(id) | Self::Gateway(id) => id.clone(),
            Self::Node(node) => node.to_string(),
            Self::Recovery => RECOVERY_ID.to_owned(),
        }
    }

    /// Parses the form that people and key files write: `operator:ada`, `agent:refund-bot`, `gateway:bank`, `node:3`, `recovery`.
    ///
    /// # Errors
    /// [`IdError`]
    pub fn from_text(text: &str) -> Result<Self, IdError> {
        let (kind, id) = text.split_once(':').unwrap_or((text, RECOVERY_ID));
        let kind = match kind {
            "operator" => v1::IdentityKind::Operator,
            "agent" => v1::IdentityKind::Agent,
            "gateway" => v1::IdentityKind::Gateway,
            "node" => v1::IdentityKind::Node,
            "recovery" => v1::IdentityKind::Recovery,
            _ => return Err(IdError::Kind),
        };
        Self::parse(&v1::Identity {
            kind: kind.into(),
            id: id.to_owned(),
        })
    }

    /// The form that [`Identity::from_text`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Operator(id) => format!("operator:{id}"),
            Self::Agent(id) => format!("agent:{id}"),
            Self::Gateway(id) => format!("gateway:{id}"),
            Self::Node(node) => format!("node:{node}"),
            Self::Recovery => RECOVERY_ID.to_owned(),
        }
    }

    /// The message.
    #[must_use]
    pub fn to_message(&self) -> v1::Identity {
        v1::Identity {
            kind: self.kind().into(),
            id: self.id(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(id) => write!(f, "operator `{id}`"),
            Self::Agent(id) => write!(f, "agent `{id}`"),
            Self::Gateway(id) => write!(f, "gateway `{id}`"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Recovery => f.write_str("the recovery key"),
        }
    }
}
