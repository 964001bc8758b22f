//! The network between nodes, in our hands: each node dials each other one through a byte proxy of its own.
//!
//! A cut holds bytes back rather than closing connections, because that is what a cable does: both ends only notice that
//! nothing comes. What was held back arrives when the cut is mended, as TCP would send it again. Directions are those of
//! bytes, not of calls: cutting 1 to 2 stops what 1 asks of 2 and what 1 answers to 2.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes moved at once.
const BUFFER: usize = 64 * 1024;

/// How bytes get from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Nothing gets through.
    pub cut: bool,
    /// Each piece is late by so much.
    pub delay: Duration,
}

/// What an eavesdropper on all cables has heard, once there is one.
#[derive(Debug, Clone, Default)]
struct Tap(Arc<Mutex<Option<Vec<u8>>>>);

impl Tap {
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = heard.as_mut() {
            heard.extend_from_slice(bytes);
        }
    }
}

/// One direction between two nodes, shared by all connections that carry its bytes.
type Direction = watch::Sender<Flow>;

/// All proxies of a cluster.
#[derive(Debug, Default)]
pub struct Network {
    directions: BTreeMap<(u64, u64), Arc<Direction>>,
    tap: Tap,
    proxies: JoinSet<()>,
}

impl Network {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a proxy through which one node reaches another, and gives its address.
    ///
    /// # Panics
    /// If there is no port left.
    pub async fn connect(&mut self, from: u64, to: u64, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a port");
        let address = listener.local_addr().expect("it listens");
        let there = self.direction(from, to).subscribe();
        let back = self.direction(to, from).subscribe();
        let tap = self.tap.clone();
        self.proxies
            .spawn(serve(listener, target, there, back, tap));
        address
    }

    fn direction(&mut self, from: u64, to: u64) -> Arc<Direction> {
        let direction = self.directions.entry((from, to)).or_default();
        Arc::clone(direction)
    }

    /// From now on keeps whatever goes from any node to another, as somebody on the cables could.
    pub fn eavesdrop(&self) {
        let mut heard = self.tap.0.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(Vec::new());
    }

    /// What was heard since then.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        let heard = self.tap.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone().unwrap_or_default()
    }

    /// Changes how bytes get from one node to another.
    pub fn set(&mut self, from: u64, to: u64, flow: Flow) {
        self.direction(from, to).send_replace(flow);
    }

    /// Lets nothing through from one node to another. What goes the other way arrives.
    pub fn cut(&mut self, from: u64, to: u64) {
        let delay = self.direction(from, to).borrow().delay;
        self.set(from, to, Flow { cut: true, delay });
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&mut self, node: u64) {
        let pairs: Vec<_> = self.directions.keys().copied().collect();
        for (from, to) in pairs {
            if from == node || to == node {
                self.cut(from, to);
            }
        }
    }

    /// Cuts what a node says to all others; it still hears them.
    pub fn mute(&mut self, node: u64) {
        let pairs: Vec<_> = self.directions.keys().copied().collect();
        for (from, to) in pairs {
            if from == node {
                self.cut(from, to);
            }
        }
    }

    /// Cuts what all others say to a node; they still hear it.
    pub fn deafen(&mut self, node: u64) {
        let pairs: Vec<_> = self.directions.keys().copied().collect();
        for (from, to) in pairs {
            if to == node {
                self.cut(from, to);
            }
        }
    }

    /// Lets everything through again.
    pub fn heal(&mut self) {
        for direction in self.directions.values() {
            direction.send_replace(Flow::default());
        }
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    there: watch::Receiver<Flow>,
    back: watch::Receiver<Flow>,
    tap: Tap,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                connections.spawn(carry(near, target, there.clone(), back.clone(), tap.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(
    near: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<Flow>,
    mut back: watch::Receiver<Flow>,
    tap: Tap,
) {
    // To shake hands both ways must be open. Whoever dials sees a connection that stays silent.
    loop {
        let open = async {
            there.wait_for(|flow| !flow.cut).await?;
            back.wait_for(|flow| !flow.cut).await.map(|_| ())
        };
        if open.await.is_err() {
            return;
        }
        if !there.borrow().cut {
            break;
        }
    }
    // Nobody listens there: closing is how the dialling node learns it.
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    // When one end goes, the other learns it at once: a killed process resets both ways.
    tokio::select! {
        () = pump(near_in, far_out, there, &tap) => {}
        () = pump(far_in, near_out, back, &tap) => {}
    }
}

/// Moves bytes one way until an end is gone.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    tap: &Tap,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(len) = from.read(&mut buffer).await else {
            return;
        };
        if len == 0 {
            return;
        }
        let delay = flow.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // Also the news that an end is gone does not get through a cut: reading goes on only afterwards.
        if flow.wait_for(|flow| !flow.cut).await.is_err() {
            return;
        }
        tap.hear(&buffer[..len]);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that gives back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(tokio::spawn(async move {
                    let (mut input, mut output) = stream.into_split();
                    tokio::io::copy(&mut input, &mut output).await
                }));
            }
        });
        address
    }

    async fn hears(stream: &mut TcpStream, at_most: Duration) -> bool {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        matches!(tokio::time::timeout(at_most, read).await, Ok(Ok(_)))
    }

    #[tokio::test]
    async fn a_cut_holds_back_and_healing_delivers() {
        let target = echo().await;
        for cut in [(1, 2), (2, 1)] {
            let mut network = Network::new();
            let proxy = network.connect(1, 2, target).await;
            let mut stream = TcpStream::connect(proxy).await.expect("connects");
            stream.write_all(b"a").await.expect("sends");
            assert!(hears(&mut stream, Duration::from_secs(5)).await);

            network.cut(cut.0, cut.1);
            stream.write_all(b"b").await.expect("sends");
            assert!(!hears(&mut stream, Duration::from_millis(200)).await);
            let mut late = TcpStream::connect(proxy).await.expect("connects");
            late.write_all(b"c").await.expect("sends");
            assert!(!hears(&mut late, Duration::from_millis(200)).await);

            network.heal();
            assert!(hears(&mut stream, Duration::from_secs(5)).await);
            assert!(hears(&mut late, Duration::from_secs(5)).await);
        }
    }
}
