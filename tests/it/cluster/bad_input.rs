//! Strangers at the ports: whatever they send gets a clear error or nothing, and everybody else is served.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use countersign_tests::cluster::client::{Line, Signing};
use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};
use ledger_proto::v1;
use tonic::Code;

/// How much more memory bad input may take: a part of the node's budget of 512 MiB.
const GROWTH: u64 = 128 * 1024 * 1024;
/// Connections at once.
const CONNECTIONS: usize = 4_096;
/// The same for the port of the peers.
const PEER_CONNECTIONS: usize = 256;
/// Connections with slow calls, and such calls on each of them.
const SLOW_CONNECTIONS: usize = 500;
const SLOW_CALLS: u32 = 15;
/// Bytes that a slow call sends: fewer than the window that every stream begins with.
const SLOW_LEN: usize = 64_000;
/// How much more memory slow calls may take: the 24 MiB that they have together, once more for what is copied, and the calls.
const SLOW_GROWTH: u64 = 256 * 1024 * 1024;
/// Frames of HTTP/2.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn single() -> Options {
    Options {
        nodes: 1,
        ..Options::default()
    }
}

/// Fails unless the cluster answers, no process has ended or panicked, and memory is bounded.
async fn must_serve(cluster: &mut Cluster, actor: &Actor, before: u64) {
    must_serve_within(cluster, actor, before + GROWTH).await;
}

async fn must_serve_within(cluster: &mut Cluster, actor: &Actor, most: u64) {
    let _ = cluster.time_to_answer(actor).await;
    cluster.must_be_alive();
    let after: u64 = cluster.resident_bytes().into_iter().sum();
    assert!(
        after < most,
        "the node takes {after} bytes of memory, more than {most}"
    );
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    let timeout = Some(Duration::from_secs(5));
    stream.set_write_timeout(timeout).expect("a timeout");
    stream.set_read_timeout(timeout).expect("a timeout");
    stream
}

/// Sends bytes and waits until the other end closes; whether it takes them all is its own affair.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = [0; 1024];
    while stream.read(&mut answer).is_ok_and(|len| len > 0) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_hurts_nobody() {
    let (mut cluster, actors) = Cluster::with_actors(single(), 1).await;
    let before: u64 = cluster.resident_bytes().into_iter().sum();
    let ports = [cluster.file(1).client, cluster.file(1).peer];
    let noise: Vec<u8> = (0_u32..100_000)
        .flat_map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes())
        .collect();
    // A DATA frame that claims 16 MiB, a HEADERS frame of noise, and a frame of a type that does not exist.
    let oversized = [
        PREFACE,
        SETTINGS,
        &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        &noise,
    ]
    .concat();
    let headers = [PREFACE, SETTINGS, &[0, 0x40, 0, 1, 4, 0, 0, 0, 1], &noise].concat();
    let unknown = [PREFACE, SETTINGS, &[0, 0, 8, 0xee, 0, 0, 0, 0, 1], &noise].concat();
    let samples: [&[u8]; 6] = [
        &noise,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        PREFACE,
        &oversized,
        &headers,
        &unknown,
    ];
    let thrown = tokio::task::spawn_blocking({
        let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
        move || {
            for port in ports {
                for sample in &samples {
                    throw(port, sample);
                }
            }
        }
    });
    thrown.await.expect("throwing ends");
    must_serve(&mut cluster, &actors[0], before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_in_thousands_do_not_shut_others_out() {
    let (mut cluster, actors) = Cluster::with_actors(single(), 1).await;
    let before: u64 = cluster.resident_bytes().into_iter().sum();
    let address = cluster.file(1).client;
    let held: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|number| {
            let mut stream = connect(address);
            // Some say nothing, some begin to speak and stop in the middle of a word.
            let slow = &PREFACE[..number % PREFACE.len()];
            let _ = stream.write_all(slow);
            stream
        })
        .collect();
    must_serve(&mut cluster, &actors[0], before).await;
    drop(held);
    must_serve(&mut cluster, &actors[0], before).await;
}

/// True once the other end has closed; what it said before does not count.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut said = [0; 1024];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_which_nothing_is_said_make_room_for_others() {
    let (mut cluster, actors) = Cluster::with_actors(single(), 1).await;
    let before: u64 = cluster.resident_bytes().into_iter().sum();
    let ports = [
        (cluster.file(1).client, CONNECTIONS),
        (cluster.file(1).peer, PEER_CONNECTIONS),
    ];
    let mut silent: Vec<TcpStream> = Vec::new();
    for (port, most) in ports {
        for number in 0..most {
            let mut stream = connect(port);
            // All but the last byte of what would make it a connection.
            let _ = stream.write_all(&PREFACE[..number % PREFACE.len()]);
            stream.set_nonblocking(true).expect("a socket can wait");
            silent.push(stream);
        }
    }
    until("the silent ones are shown out", SOON, async || {
        silent.retain_mut(|stream| !is_closed(stream));
        silent.is_empty().then_some(())
    })
    .await;
    // Somebody who was not there before gets in.
    let line = Line::new(1, &cluster.file(1).client.to_string());
    let question = cluster.signing.command(question(&actors[0], 0));
    until("a new connection is served", SOON, async || {
        ask(&line, &question).await.ok()
    })
    .await;
    must_serve(&mut cluster, &actors[0], before).await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("a short frame");
    let [_, len @ ..] = len.to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// Kind and stream of the next frame; none once the connection has ended.
fn read_frame(stream: &mut TcpStream) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut content = vec![0; usize::try_from(len).expect("a short frame")];
    stream.read_exact(&mut content).ok()?;
    let id = [head[5], head[6], head[7], head[8]];
    Some((head[3], u32::from_be_bytes(id)))
}

/// Opens a connection, and on it calls that send the beginning of a long message and then nothing.
fn begin_slowly(address: SocketAddr) -> TcpStream {
    let mut headers = vec![0x83, 0x86, 0x04, 46];
    headers.extend(b"/countersign.v1.AuthorizationService/Authorize");
    headers.extend(b"\x01\x04test\x0f\x10\x10application/grpc\x00\x02te\x08trailers");
    let mut message = vec![0];
    message.extend(3_000_000_u32.to_be_bytes());
    message.resize(SLOW_LEN, b' ');

    let mut stream = connect(address);
    let patience = Some(RECOVERY);
    stream.set_read_timeout(patience).expect("a timeout");
    stream.set_write_timeout(patience).expect("a timeout");
    let _ = stream.write_all(&[PREFACE, SETTINGS].concat());
    // Until the window of the connection is open, all calls together could not send as much.
    while read_frame(&mut stream).is_some_and(|(kind, id)| (kind, id) != (WINDOW_UPDATE, 0)) {}
    for number in 0..SLOW_CALLS {
        let id = 2 * number + 1;
        let mut bytes = frame(HEADERS, 4, id, &headers);
        for part in message.chunks(16_000) {
            bytes.extend(frame(0, 0, id, part));
        }
        let _ = stream.write_all(&bytes);
    }
    stream
}

/// How many of the calls that a connection opened have ended; all when the connection has.
fn ended(mut stream: TcpStream) -> usize {
    let all = usize::try_from(SLOW_CALLS).expect("a few");
    let mut ended = BTreeSet::new();
    while ended.len() < all {
        match read_frame(&mut stream) {
            Some((HEADERS | RST_STREAM, id)) => {
                ended.insert(id);
            }
            Some(_) => {}
            None => return all,
        }
    }
    ended.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_arrive_take_no_more_than_their_room_and_end() {
    let (mut cluster, actors) = Cluster::with_actors(single(), 1).await;
    let before: u64 = cluster.resident_bytes().into_iter().sum();
    let address = cluster.file(1).client;
    let begin = move || -> Vec<TcpStream> {
        let connections = 0..SLOW_CONNECTIONS;
        connections.map(|_| begin_slowly(address)).collect()
    };
    let slow = tokio::task::spawn_blocking(begin).await.expect("begun");
    // 480 MB were sent.
    must_serve_within(&mut cluster, &actors[0], before + SLOW_GROWTH).await;
    // Those for whom there was no room have been told; the others hear when their time is over.
    let wait = move || -> usize { slow.into_iter().map(ended).sum() };
    let ended = tokio::task::spawn_blocking(wait).await.expect("ended");
    let calls = usize::try_from(SLOW_CALLS).expect("a few");
    assert_eq!(ended, SLOW_CONNECTIONS * calls);
    must_serve_within(&mut cluster, &actors[0], before + SLOW_GROWTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_clear_errors() {
    let (mut cluster, actors) = Cluster::with_actors(single(), 1).await;
    let before: u64 = cluster.resident_bytes().into_iter().sum();
    let line = cluster.line(1).clone();

    let elsewhere = Signing::new("ledger.test/elsewhere");
    let failed = ask(&line, &elsewhere.command(question(&actors[0], 0)))
        .await
        .expect_err("refused");
    assert_eq!(failed.code, Code::Unauthenticated, "{failed:?}");
    assert_eq!(failed.reason, "SIGNATURE_INVALID", "{failed:?}");

    let mut spoilt = cluster.signing.command(question(&actors[0], 0));
    spoilt.signed.as_mut().expect("signed").command = vec![0xff; 100];
    let failed = ask(&line, &spoilt).await.expect_err("refused");
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::InvalidArgument, "COMMAND_MALFORMED")
    );

    let mut long = cluster.signing.command(question(&actors[0], 0));
    long.compartments = vec![v1::Compartment {
        content: vec![b' '; 4 * 1024 * 1024],
        ..v1::Compartment::default()
    }];
    let failed = ask(&line, &long).await.expect_err("refused");
    assert!(
        matches!(
            failed.code,
            Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument
        ),
        "{failed:?}"
    );

    must_serve(&mut cluster, &actors[0], before).await;
}
