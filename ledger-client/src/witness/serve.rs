//! A witness's port: HTTP/1.1 with the one call that a log makes. Everything a stranger can send is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ledger_core::note::tlog_witness::{ADD_CHECKPOINT_PATH, MAX_ADD_CHECKPOINT_LEN};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::{Witness, WitnessReply};
use crate::error::Error;
use crate::signing::now_us;

/// Most connections at a time: a log keeps one open.
const MAX_CONNECTIONS: usize = 256;
/// How long a request may take to arrive, its head and its body each.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long a connection may live: logs connect again.
const LIFE: Duration = Duration::from_secs(600);
/// After a connection could not be accepted, as when there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until the witness cannot go on.
///
/// # Errors
/// [`Error::Internal`]: what it cosigns cannot be remembered any more.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener) -> Result<(), Error> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (failed, mut failure) = mpsc::channel(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(error) = failure.recv() => return Err(error),
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Whoever finds no place is hung up on.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (witness, failed) = (Arc::clone(&witness), failed.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let (witness, failed) = (Arc::clone(&witness), failed.clone());
                async move { Ok::<_, Infallible>(answer(witness, failed, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ARRIVAL)
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the other end's to make again.
            let _ = tokio::time::timeout(LIFE, connection).await;
        });
    }
}

async fn answer(
    witness: Arc<Witness>,
    failed: mpsc::Sender<Error>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let is_call = request
        .uri()
        .path()
        .rsplit_once('/')
        .is_some_and(|(_, call)| call == ADD_CHECKPOINT_PATH);
    if !is_call || request.method() != Method::POST {
        let why = format!("the one call is POST /{ADD_CHECKPOINT_PATH}");
        return response(WitnessReply::refused(StatusCode::NOT_FOUND, why));
    }
    let body = Limited::new(request.into_body(), MAX_ADD_CHECKPOINT_LEN).collect();
    let body = match tokio::time::timeout(ARRIVAL, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let why = format!("a request has at most {MAX_ADD_CHECKPOINT_LEN} bytes");
            return response(WitnessReply::refused(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Err(_) => {
            let why = "the request did not arrive in time";
            return response(WitnessReply::refused(StatusCode::REQUEST_TIMEOUT, why));
        }
    };
    let mut added = add_checkpoint(&witness, &body).await;
    // Its nodes may be others by now.
    if let Ok(Ok(WitnessReply {
        lacks_nodes_of: Some(origin),
        ..
    })) = &added
        && let Some(log) = witness.log(origin)
        && log.follow().await
    {
        added = add_checkpoint(&witness, &body).await;
    }
    match added {
        Ok(Ok(reply)) => response(reply),
        Ok(Err(error)) => {
            // One is enough to end it.
            let _ = failed.try_send(error);
            unable()
        }
        Err(error) => {
            let _ = failed.try_send(Error::Internal(error.to_string()));
            unable()
        }
    }
}

async fn add_checkpoint(
    witness: &Arc<Witness>,
    body: &Bytes,
) -> Result<Result<WitnessReply, Error>, tokio::task::JoinError> {
    let (witness, body) = (Arc::clone(witness), body.clone());
    let now_s = now_us() / 1_000_000;
    tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now_s)).await
}

fn unable() -> Response<Full<Bytes>> {
    let why = "this witness cannot remember what it cosigns, and stops";
    response(WitnessReply::refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        why,
    ))
}

fn response(reply: WitnessReply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = reply.status;
    let content_type = HeaderValue::from_static(reply.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
