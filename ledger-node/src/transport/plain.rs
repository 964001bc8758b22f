//! What is done on a connection outside of TLS: a client on the wrong port is told so, and whoever is refused may read why.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a refused end may take to read why, and how many bytes of it are thrown away meanwhile.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 64 << 10);
/// The first byte of every client of HTTP/2 without TLS, whose first word is `PRI`. TLS begins with another.
const HTTP2: u8 = b'P';
/// What such a client is told.
const WRONG_PORT: &[u8; 64] = b"this is the port for other nodes, clients use the client address";
/// The length in bytes of a GOAWAY frame that says it: the last stream, the error, the words.
const GOAWAY_LEN: u8 = 4 + 4 + 64;

/// True if the other end begins as a client of HTTP/2 without TLS does.
pub(super) async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let there = stream.peek(&mut first).await?;
    Ok(there == 1 && first == [HTTP2])
}

/// Tells a client of HTTP/2 that this is not its port: empty settings, and a GOAWAY with `REFUSED_STREAM`, so that it knows that nothing
/// was done (RFC 9113, 6.8 and 8.7).
pub(super) async fn refuse(mut stream: TcpStream) {
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    frames.extend([0, 0, GOAWAY_LEN, 7, 0, 0, 0, 0, 0]);
    frames.extend([0, 0, 0, 0, 0, 0, 0, 7]);
    frames.extend(WRONG_PORT);
    if stream.write_all(&frames).await.is_ok() {
        linger(stream).await;
    }
}

/// Lets a refused end read why: a socket that is closed while it holds unread bytes is reset, and what was on its way is lost.
pub(super) async fn linger(mut stream: TcpStream) {
    let (patience, most) = LINGER;
    let reading = async {
        if stream.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(patience, reading).await;
}
