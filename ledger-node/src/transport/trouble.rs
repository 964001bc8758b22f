//! Handshakes that fail, in plain words and seldom: strangers can cause them as often as they like.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use crate::seldom::Seldom;

/// Between two lines on handshakes that failed.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// When failed handshakes were last told of.
#[derive(Debug)]
pub struct Troubles {
    dialled: Seldom,
    accepted: Seldom,
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            dialled: Seldom::new(SAY_AGAIN),
            accepted: Seldom::new(SAY_AGAIN),
        }
    }
}

impl Troubles {
    /// Tells of a connection to a node that failed for who is at either end. One that nobody accepts is not told of here: the node
    /// is down, and whoever needs it says so.
    pub fn dialled(&self, node_id: u64, error: &Error) {
        let is_of_identity = tls_error(error).is_some() || error.kind() == ErrorKind::NotFound;
        if is_of_identity && self.dialled.may_say() {
            tracing::warn!(node_id, reason = %explain(error, End::Server), "no connection with a node");
        }
    }

    /// Tells of a connection that this node did not take.
    pub fn accepted(&self, from: Option<SocketAddr>, error: &Error) {
        if self.accepted.may_say() {
            let from = from.map_or_else(String::new, |from| from.to_string());
            tracing::warn!(from, reason = %explain(error, End::Client), "a connection of a peer is refused");
        }
    }
}

/// The end of a connection that is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that was dialled.
    Server,
    /// The one that has dialled.
    Client,
}

/// Why a connection failed, in plain words: what the other end, which is this one of the two, did.
#[must_use]
pub fn explain(error: &Error, other: End) -> String {
    let Some(tls) = tls_error(error) else {
        return if error.kind() == ErrorKind::TimedOut {
            "it did not complete its handshake in time".to_owned()
        } else if error.kind() == ErrorKind::UnexpectedEof {
            "it hung up during the handshake".to_owned()
        } else {
            error.to_string()
        };
    };
    let (to_server, to_client) = if is_unlisted(tls) {
        (
            "it has another key than the node that is meant; check the addresses of the nodes",
            "its key is of no member of this ledger",
        )
    } else if is_denied(tls) {
        (
            "it does not know this node's key: as far as it knows, this node is no member",
            "it says that this node has another key than the one it means",
        )
    } else if matches!(tls, rustls::Error::InvalidMessage(_)) {
        (
            "it does not speak TLS; is this the address of a client port?",
            "it does not speak TLS; this is the port for other nodes, clients use the client address",
        )
    } else if matches!(
        tls,
        rustls::Error::NoCertificatesPresented
            | rustls::Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension)
    ) {
        ("it shows no key of a node", "it shows no key of a node")
    } else {
        return tls.to_string();
    };
    match other {
        End::Server => to_server.to_owned(),
        End::Client => to_client.to_owned(),
    }
}

/// True if the other end showed a key that is not listed.
pub(super) fn is_stranger(error: &Error) -> bool {
    tls_error(error).is_some_and(is_unlisted)
}

/// True if the other end showed a key that is not listed, or not the one that was meant.
const fn is_unlisted(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
    )
}

/// True if the other end says that it does not list this node's key, or means another one.
pub(super) fn is_refusal(error: &Error) -> bool {
    tls_error(error).is_some_and(is_denied)
}

const fn is_denied(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::AlertReceived(AlertDescription::AccessDenied)
    )
}

/// What TLS found, if that is why.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The key was listed when the handshake began, and is not when it has ended.
pub(super) fn unlisted() -> Error {
    Error::other(rustls::Error::InvalidCertificate(
        CertificateError::ApplicationVerificationFailure,
    ))
}

/// Who has connected speaks without TLS.
pub(super) fn no_tls() -> Error {
    Error::other(rustls::Error::InvalidMessage(
        InvalidMessage::InvalidContentType,
    ))
}

/// Who shakes hands speaks something else than HTTP/2.
pub(super) fn no_http2() -> Error {
    Error::other(rustls::Error::NoApplicationProtocol)
}

/// The other end does not speak the protocol of trust steps.
pub(super) fn no_trust_steps() -> Error {
    Error::other(rustls::Error::NoApplicationProtocol)
}

/// Nobody has said which key this node has.
pub(super) fn unknown_node(node_id: u64) -> Error {
    let what = format!("this node knows no key of node {node_id} yet");
    Error::new(ErrorKind::NotFound, what)
}
