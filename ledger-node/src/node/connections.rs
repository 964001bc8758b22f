//! Connections as they are accepted: only so many at a time, and only those on which somebody speaks.
//!
//! HTTP/2 looks after a connection with pings, but only once the other end has said its first words. A connection on which
//! nothing is said would hold its place for ever; it is closed here.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

use crate::seldom::Seldom;

/// Time for the first words of a connection. They fit into one packet, and come unasked: 5 s are two packets that were lost.
pub(super) const OPENING: Duration = Duration::from_secs(5);
/// Length in bytes of what every client of HTTP/2 says first.
const PREFACE_LEN: usize = 24;
/// Between two words on connections that are refused.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The calls of one connection that may go on asking share so many places. Clones are the same places.
#[derive(Debug, Clone)]
pub(super) struct Share(pub(super) Arc<Semaphore>);

impl Share {
    /// So many places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }
}

/// A connection that counts, and what is known of it.
#[derive(Debug)]
pub(super) struct Counted<S, I> {
    stream: S,
    info: I,
    opening: Option<Opening>,
    _permit: OwnedSemaphorePermit,
}

impl<S, I> Counted<S, I> {
    /// A connection that has a place, and whose first words come within `opening`.
    pub(super) fn new(stream: S, info: I, opening: Duration, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            info,
            opening: Some(Opening {
                missing: PREFACE_LEN,
                late: Box::pin(tokio::time::sleep(opening)),
            }),
            _permit: place,
        }
    }
}

/// A connection whose first words have not all come.
#[derive(Debug)]
struct Opening {
    missing: usize,
    late: Pin<Box<Sleep>>,
}

/// The connections of a port, at most so many at a time, each with so many calls that may go on asking; their first words come
/// within `opening`.
pub(super) fn limited(
    listener: TcpListener,
    most: usize,
    streams: usize,
    opening: Duration,
) -> impl Stream<Item = std::io::Result<Counted<TcpStream, Share>>> {
    accepted(listener, most)
        .map(move |(stream, place)| Ok(Counted::new(stream, Share::new(streams), opening, place)))
}

/// The connections of a port as they are accepted, at most so many at a time, each with its place among them.
pub(super) fn accepted(
    listener: TcpListener,
    most: usize,
) -> impl Stream<Item = (TcpStream, OwnedSemaphorePermit)> {
    let room = Arc::new(Semaphore::new(most));
    let full = Seldom::new(SAY_AGAIN);
    TcpListenerStream::new(listener).filter_map(move |accepted| {
        let accepted = match accepted {
            Ok(stream) => {
                let place = Arc::clone(&room).try_acquire_owned().ok();
                if place.is_none() && full.may_say() {
                    tracing::warn!(most, "connections are refused: as many as may be are open");
                }
                // Small answers should not wait for more.
                let _ = stream.set_nodelay(true);
                place.map(|place| (stream, place))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                None
            }
        };
        std::future::ready(accepted)
    })
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Counted<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Counted<S, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else {
            return polled;
        };
        if polled.is_pending() {
            return opening.late.as_mut().poll(context).map(|()| {
                Err(Error::new(
                    ErrorKind::TimedOut,
                    "nothing was said on this connection",
                ))
            });
        }
        let came = buffer.filled().len().saturating_sub(before);
        opening.missing = opening.missing.saturating_sub(came);
        if opening.missing == 0 {
            self.opening = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Counted<S, I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_connection_without_first_words_ends_and_its_place_is_free() {
        let (listener, address) = listener().await;
        let mut connections = pin!(limited(listener, 1, 1, Duration::from_millis(20)));
        for said in [0, 1, PREFACE_LEN - 1] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&vec![b'P'; said]).await.unwrap();
            let mut server = connections.next().await.unwrap().unwrap();
            let mut heard = Vec::new();
            let ended = server.read_to_end(&mut heard).await.unwrap_err();
            assert_eq!(ended.kind(), ErrorKind::TimedOut);
            assert_eq!(heard.len(), said, "what was said before is heard");
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_begun_may_be_silent() {
        let (listener, address) = listener().await;
        let mut connections = pin!(limited(listener, 1, 1, Duration::from_millis(20)));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[b'P'; PREFACE_LEN]).await.unwrap();
        let mut server = connections.next().await.unwrap().unwrap();
        let mut heard = [0; PREFACE_LEN];
        server.read_exact(&mut heard).await.unwrap();
        assert!(server.opening.is_none(), "no clock runs any more");
    }
}
