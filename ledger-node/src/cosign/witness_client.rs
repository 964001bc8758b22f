//! The call `add-checkpoint` to a witness outside, over HTTP (C2SP tlog-witness). What comes back is not believed here: a
//! cosignature counts once it verifies.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ledger_core::hash::TreeSize;
use ledger_core::note::signed_note::NoteSignature;
use ledger_core::note::tlog_witness::{ADD_CHECKPOINT_PATH, AddCheckpoint, parse_size};
use rustls::{ClientConfig, RootCertStore};

/// How long a connection to a witness may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);
/// Longest answer in bytes: a few cosignature lines of some 200 bytes, or a size.
const MAX_ANSWER: usize = 16 * 1024;
/// Most cosignature lines of one answer that are looked at: a witness may sign with several keys.
const MAX_LINES: usize = 16;

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WitnessAnswer {
    /// It has cosigned; nothing about the lines was verified.
    Cosigned(Vec<NoteSignature>),
    /// It has cosigned a tree of this size, and was asked about another.
    OtherSize(TreeSize),
    /// It has not, in words.
    Refused(String),
}

/// Calls witnesses. Connections are kept between calls.
pub(super) struct WitnessClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl std::fmt::Debug for WitnessClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WitnessClient")
    }
}

impl WitnessClient {
    /// A client for witnesses behind `https://` and, because what travels is public and signed, behind `http://`.
    ///
    /// # Errors
    /// TLS cannot be set up, in one sentence.
    fn new() -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config().map_err(|error| error.to_string())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(1)
                .build(connector),
        })
    }

    /// The client of this process, made when it is first needed.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<WitnessClient, String>> = OnceLock::new();
        SHARED.get_or_init(Self::new).as_ref().map_err(Clone::clone)
    }

    /// Asks a witness to cosign. How long it may take is the caller's to bound.
    ///
    /// # Errors
    /// It could not be asked, or its answer is none.
    pub(super) async fn add_checkpoint(
        &self,
        url: &str,
        request: &AddCheckpoint,
    ) -> Result<WitnessAnswer, String> {
        let uri: Uri = format!("{}/{ADD_CHECKPOINT_PATH}", url.trim_end_matches('/'))
            .parse()
            .map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::from(request.to_string()))
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await;
        let answer =
            answer.map_err(|error| format!("nobody answers at {url}: {}", cause(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer of {url} cannot be read: {error}"))?;
        read_answer(status, &body.to_bytes())
    }
}

/// TLS with the certificate authorities of the system. A system without any can still reach witnesses behind `http://`.
fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() || ignored > 0 {
        tracing::warn!(
            usable = roots.len(),
            ignored,
            "witnesses behind https:// are checked with these of the system's certificate authorities"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What a failure began with.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn read_answer(status: StatusCode, body: &[u8]) -> Result<WitnessAnswer, String> {
    let refused = |why: &str| Ok(WitnessAnswer::Refused(why.to_owned()));
    match status {
        StatusCode::OK => {
            let text =
                std::str::from_utf8(body).map_err(|_| "its answer is not text".to_owned())?;
            let lines = text.lines().take(MAX_LINES).map(NoteSignature::parse);
            let lines: Result<Vec<NoteSignature>, _> = lines.collect();
            lines
                .map(WitnessAnswer::Cosigned)
                .map_err(|error| format!("its answer holds no cosignature: {error}"))
        }
        StatusCode::CONFLICT => match parse_size(body) {
            Some(size) => Ok(WitnessAnswer::OtherSize(size)),
            None => refused("it has cosigned another tree, and does not say of which size"),
        },
        StatusCode::NOT_FOUND => refused("it does not know this ledger; tell it the log's key"),
        StatusCode::FORBIDDEN => refused(
            "it does not accept the log's signature, or not those of the nodes; tell it the trust policy in force",
        ),
        StatusCode::UNPROCESSABLE_ENTITY => refused(
            "this tree does not contain the one that it has cosigned: the ledger was forked, or put back from a copy",
        ),
        other => Ok(WitnessAnswer::Refused(format!(
            "it answers with status {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_means_what_the_specification_says() {
        let read = |status: u16, body: &str| {
            read_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        assert_eq!(
            read(409, "18\n"),
            Ok(WitnessAnswer::OtherSize(TreeSize(18)))
        );
        let line = format!("\u{2014} w.test {}\n", "QUJDREVGR0g=");
        assert!(matches!(read(200, &line), Ok(WitnessAnswer::Cosigned(lines)) if lines.len() == 1));
        for (status, body, says) in [
            (409, "many\n", "another tree"),
            (404, "", "does not know this ledger"),
            (403, "", "the log's signature"),
            (422, "", "forked"),
            (400, "", "400"),
            (500, "", "500"),
            (302, "", "302"),
        ] {
            let Ok(WitnessAnswer::Refused(why)) = read(status, body) else {
                panic!("{status}");
            };
            assert!(why.contains(says), "{status}: {why}");
        }
        assert!(read(200, "no signature\n").is_err());
    }
}
