//! A connection with one node, which ends when the directory does not list the node any more.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::directory::Entry;
use super::key::Spki;
use super::refusals::{Refusals, RefusedDial};
use super::trouble::{self, Troubles};

/// A dial that has led to a connection. With TLS 1.3 the other end's refusal comes after the handshake.
pub(super) struct Dial {
    pub(super) address: String,
    pub(super) key: Spki,
    pub(super) troubles: Arc<Troubles>,
    pub(super) refusals: Arc<Refusals>,
}

impl Dial {
    /// Takes note of what ends the connection.
    fn failed(&self, node_id: u64, error: &Error) {
        self.troubles.dialled(node_id, error);
        if trouble::is_refusal(error) {
            self.refusals.note(RefusedDial {
                node_id,
                key: self.key.clone(),
                address: self.address.clone(),
            });
        }
    }
}

/// A connection with one node.
pub struct PeerStream<S> {
    stream: S,
    node_id: u64,
    unlisted: CancellationToken,
    ended: BoxFuture<'static, ()>,
    /// Hears of what ends a connection that this node has made.
    dial: Option<Dial>,
}

impl<S> std::fmt::Debug for PeerStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerStream")
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

impl<S> PeerStream<S> {
    pub(super) fn new(stream: S, entry: Entry, dial: Option<Dial>) -> Self {
        Self {
            stream,
            node_id: entry.node_id,
            ended: entry.unlisted.clone().cancelled_owned().boxed(),
            unlisted: entry.unlisted,
            dial,
        }
    }

    /// The node at the other end.
    #[must_use]
    pub const fn node_id(&self) -> u64 {
        self.node_id
    }

    fn is_listed(&self) -> Result<()> {
        if self.unlisted.is_cancelled() {
            Err(unlisted())
        } else {
            Ok(())
        }
    }
}

/// The node at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteNode(pub u64);

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = RemoteNode;

    fn connect_info(&self) -> RemoteNode {
        RemoteNode(self.node_id)
    }
}

fn unlisted() -> Error {
    let what = "the node at the other end is a member no more";
    Error::new(ErrorKind::ConnectionAborted, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.is_listed()?;
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => Poll::Ready(read.inspect_err(|error| {
                if let Some(dial) = &self.dial {
                    dial.failed(self.node_id, error);
                }
            })),
            Poll::Pending => self.ended.poll_unpin(context).map(|()| Err(unlisted())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.is_listed()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.is_listed()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
