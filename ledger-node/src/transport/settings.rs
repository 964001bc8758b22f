//! The settings of TLS: version 1.3 only, Ed25519 keys as raw public keys, and one protocol for each configuration.

use std::io;
use std::sync::Arc;

use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

use super::directory::KeyDirectory;
use super::key::Spki;
use super::verifier::{ClientVerifier, ServerVerifier};

/// The protocol of calls: HTTP/2.
pub(super) const CALLS: &[u8] = b"h2";
/// The protocol of pushed trust steps, whose messages are in `peer_service.proto`.
pub(super) const TRUST_STEPS: &[u8] = b"countersign-trust-steps/1";

/// The settings of both ends, with this node's key.
pub(super) struct Settings {
    provider: Arc<CryptoProvider>,
    own_key: Arc<CertifiedKey>,
}

impl Settings {
    /// The settings of the node that shows this key.
    pub(super) fn new(own_key: CertifiedKey) -> Self {
        Self {
            provider: Arc::new(ring::default_provider()),
            own_key: Arc::new(own_key),
        }
    }

    /// The server's end of a connection for calls: the client shows a key that the directory lists.
    ///
    /// # Errors
    /// The library refuses the settings, which it does not.
    pub(super) fn server_for_calls(
        &self,
        directory: &Arc<KeyDirectory>,
    ) -> io::Result<ServerConfig> {
        let verifier = ClientVerifier::new(Arc::clone(directory), &self.provider);
        let config = self
            .server()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.shown_by_server());
        Ok(finish_server(config, CALLS))
    }

    /// The server's end of a connection for trust steps: the client shows no key.
    ///
    /// # Errors
    /// The library refuses the settings, which it does not.
    pub(super) fn server_for_trust_steps(&self) -> io::Result<ServerConfig> {
        let config = self
            .server()?
            .with_no_client_auth()
            .with_cert_resolver(self.shown_by_server());
        Ok(finish_server(config, TRUST_STEPS))
    }

    /// The client's end of a connection for calls: both ends show their keys, and the server's is this one.
    ///
    /// # Errors
    /// The library refuses the settings, which it does not.
    pub(super) fn client_for_calls(&self, expected: Spki) -> io::Result<ClientConfig> {
        let own = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.own_key));
        let config = self
            .client()?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(expected))
            .with_client_cert_resolver(Arc::new(own));
        Ok(finish_client(config, CALLS))
    }

    /// The client's end of a connection for trust steps: the server shows this key, and the client none.
    ///
    /// # Errors
    /// The library refuses the settings, which it does not.
    pub(super) fn client_for_trust_steps(&self, expected: Spki) -> io::Result<ClientConfig> {
        let config = self
            .client()?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(expected))
            .with_no_client_auth();
        Ok(finish_client(config, TRUST_STEPS))
    }

    fn server(&self) -> io::Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
        ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)
    }

    fn client(&self) -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)
    }

    fn shown_by_server(&self) -> Arc<AlwaysResolvesServerRawPublicKeys> {
        let own = AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.own_key));
        Arc::new(own)
    }

    fn verifier(&self, expected: Spki) -> Arc<ServerVerifier> {
        Arc::new(ServerVerifier::new(expected, &self.provider))
    }
}

fn finish_server(mut config: ServerConfig, protocol: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    // A node that was removed must not come back on a ticket.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

fn finish_client(mut config: ClientConfig, protocol: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config
}
