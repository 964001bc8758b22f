//! Handshakes over real sockets, between ends that hold the right key and ends that do not.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ledger_core::signer::Signer as _;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::verifier::ServerVerifier;
use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn directory(nodes: &[u64]) -> Arc<KeyDirectory> {
    Arc::new(KeyDirectory::of(Footing::Joined, &listed(nodes)))
}

/// Nodes whose keys are made of their ids.
fn listed(nodes: &[u64]) -> BTreeMap<u64, Listed> {
    let nodes = nodes.iter().map(|id| {
        let key = key(u8::try_from(*id).unwrap()).public_key();
        let role = Role::Voter;
        (*id, Listed { key, role })
    });
    nodes.collect()
}

/// A node that knows these.
fn node(seed: u8, knows: &[u64]) -> PeerTransport {
    PeerTransport::new(Arc::new(key(seed)), directory(knows)).unwrap()
}

/// Has `client` dial `server` as node `meant`, and says what each end comes to.
async fn shake(
    client: &PeerTransport,
    server: &PeerTransport,
    meant: u64,
) -> (io::Result<Connected>, io::Result<Accepted>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::join!(client.connect(meant, &address), accept(server, &listener))
}

/// Accepts one connection for calls.
async fn accept(server: &PeerTransport, listener: &TcpListener) -> io::Result<Accepted> {
    let arrival = server.accept(listener.accept().await.unwrap().0).await?;
    Ok(arrival.node().expect("a connection for calls"))
}

fn why<T: std::fmt::Debug>(failed: io::Result<T>, other: End) -> String {
    explain(&failed.unwrap_err(), other)
}

#[tokio::test]
async fn two_nodes_that_know_each_other_speak() {
    let (one, two) = (node(1, &[2]), node(2, &[1]));
    let (client, server) = shake(&one, &two, 2).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!((client.node_id(), server.node_id()), (2, 1));
    client.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn whoever_is_not_listed_or_not_meant_gets_no_connection() {
    // A stranger, with a key that nobody lists.
    let (one, two) = (node(1, &[2]), node(2, &[3]));
    let (client, server) = shake(&one, &two, 2).await;
    assert_eq!(
        why(server, End::Client),
        "its key is of no member of this ledger"
    );
    let mut told = Vec::new();
    let refused = client.unwrap().read_to_end(&mut told).await;
    let refused = why(refused, End::Server);
    assert!(
        refused.contains("does not know this node's key"),
        "{refused}"
    );

    // Another node than the one that is meant, although both are listed.
    let (one, three) = (node(1, &[2, 3]), node(3, &[1]));
    let (client, server) = shake(&one, &three, 2).await;
    let refused = why(client, End::Server);
    assert!(refused.contains("another key than the node"), "{refused}");
    let refused = why(server, End::Client);
    assert!(
        refused.contains("another key than the one it means"),
        "{refused}"
    );

    // One whose key this node does not know is not even dialled.
    let unknown = one.connect(9, "127.0.0.1:1").await;
    assert_eq!(
        why(unknown, End::Server),
        "this node knows no key of node 9 yet"
    );
}

#[tokio::test]
async fn a_connection_ends_with_the_listing_of_its_node() {
    let (one, two) = (node(1, &[2]), node(2, &[1]));
    let (client, server) = shake(&one, &two, 2).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let waits = tokio::spawn(async move { server.read_u8().await });
    two.directory().replace(Footing::Joined, &listed(&[3]));
    let ended = waits.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
    let (_, again) = shake(&one, &two, 2).await;
    assert_eq!(
        why(again, End::Client),
        "its key is of no member of this ledger"
    );
    // The other end, too, once it hears of it.
    one.directory().replace(Footing::Joined, &listed(&[3]));
    assert!(client.write_all(b"x").await.is_err());
}

/// What this end of a handshake is told to show, and takes whatever it is shown.
#[derive(Debug)]
struct Credulous(ServerVerifier);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, shown, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A client of TLS that offers these protocols, shows this key, or none, and signs with another.
fn forger(protocols: &[&[u8]], shows: Option<u8>, signs_with: u8) -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    let verifier = ServerVerifier::new(Spki::of(&[0; 32]), &provider);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(verifier)));
    let mut config = match shows {
        Some(seed) => {
            let mut forged = key::certified(Arc::new(key(signs_with)));
            forged.cert = key::certified(Arc::new(key(seed))).cert;
            let forged = rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::new(forged));
            config.with_client_cert_resolver(Arc::new(forged))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Has a forger dial a node, and says what each end comes to.
async fn forge(
    server: &PeerTransport,
    forger: &TlsConnector,
) -> (io::Result<PushingTo>, io::Result<Arrival>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(NAMELESS).unwrap();
        forger.connect(name, stream).await
    };
    tokio::join!(client, async {
        server.accept(listener.accept().await.unwrap().0).await
    })
}

#[tokio::test]
async fn a_key_is_proven_not_only_shown() {
    let two = node(2, &[1]);
    for (shows, signs_with, says) in [
        (Some(1), 1, None),
        (Some(1), 9, Some("invalid peer certificate")),
        (None, 1, Some("it shows no key of a node")),
    ] {
        let (_, server) = forge(&two, &forger(&[CALLS], shows, signs_with)).await;
        match says {
            None => assert_eq!(server.unwrap().node().unwrap().node_id(), 1),
            Some(says) => {
                let refused = why(server, End::Client);
                assert!(refused.contains(says), "{refused}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_tls_is_told_in_plain_words() {
    let two = node(2, &[1]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let server = two.accept(listener.accept().await.unwrap().0).await;
    let refused = why(server, End::Client);
    assert!(
        refused.contains("clients use the client address"),
        "{refused}"
    );
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("this is the port for other nodes"), "{told}");
}

#[tokio::test]
async fn whoever_shows_no_key_can_push_trust_steps_and_nothing_else() {
    let two = node(2, &[1]);
    // Another protocol beside that of trust steps, or none, is a wish to make calls.
    let none: &[&[u8]] = &[];
    for protocols in [
        &[CALLS][..],
        &[TRUST_STEPS, CALLS],
        &[CALLS, TRUST_STEPS],
        none,
    ] {
        let (_, server) = forge(&two, &forger(protocols, None, 1)).await;
        let refused = why(server, End::Client);
        assert_eq!(refused, "it shows no key of a node", "{protocols:?}");
    }
    let other = b"countersign-trust-steps/2".as_slice();
    let (_, server) = forge(&two, &forger(&[other], Some(1), 1)).await;
    assert!(server.is_err());
    let (_, server) = forge(&two, &forger(&[TRUST_STEPS], None, 1)).await;
    let server = server.unwrap();
    assert!(matches!(server, Arrival::TrustSteps(_)), "{server:?}");
    assert!(server.node().is_none());
    // A key is not looked at there, and not taken.
    let (_, server) = forge(&two, &forger(&[TRUST_STEPS], Some(1), 1)).await;
    assert!(server.is_err());
}

/// What a refused node dials for next is the node that has refused it, by its key, and only once for each refusal.
#[tokio::test]
async fn a_refusal_says_whom_to_push_trust_steps_to() {
    let (one, two) = (node(1, &[2]), node(2, &[3]));
    let began = std::time::Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = async {
        let mut client = one.connect(2, &address).await.unwrap();
        // Whatever it has begun to say does not keep it from hearing why it is refused.
        client.write_all(&[b'P'; 24]).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap_err()
    };
    let (ended, _) = tokio::join!(client, accept(&two, &listener));
    assert!(explain(&ended, End::Server).contains("does not know this node's key"));
    assert!(one.refusals().has_refused_since(2, began));
    assert!(!one.refusals().has_refused_since(3, began));
    let refused = one.refusals().next().await;
    let expected = RefusedDial {
        node_id: 2,
        key: Spki::of(&key(2).public_key()),
        address,
    };
    assert_eq!(refused, expected);
    let again = tokio::time::timeout(Duration::from_millis(10), one.refusals().next());
    assert!(again.await.is_err(), "it is told once");

    // Nobody else is told anything there.
    let (pushing, server) = tokio::join!(one.connect_to_push(&refused), async {
        two.accept(listener.accept().await.unwrap().0).await
    });
    assert!(matches!(server.unwrap(), Arrival::TrustSteps(_)));
    drop(pushing.unwrap());
    let other = RefusedDial {
        key: Spki::of(&key(3).public_key()),
        ..refused
    };
    let (pushing, _) = tokio::join!(one.connect_to_push(&other), async {
        two.accept(listener.accept().await.unwrap().0).await
    });
    assert!(why(pushing, End::Server).contains("another key"));
}
