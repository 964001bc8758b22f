//! Every answer to a peer says which store this node has: a layer, so that no call is forgotten.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::HeaderMap;
use http::{Request, Response};
use tonic::metadata::MetadataMap;
use tower::{Layer, Service};

use crate::raft::peers::{keys, set_store_id};
use crate::storage::store_id::StoreId;

/// The layer that adds the id of this node's store to the headers of answers.
#[derive(Debug, Clone)]
pub struct StoreHeader(HeaderMap);

impl StoreHeader {
    /// For the store of this id.
    #[must_use]
    pub fn new(own: &StoreId) -> Self {
        let mut metadata = MetadataMap::new();
        set_store_id(&mut metadata, keys::STORE, own);
        Self(metadata.into_headers())
    }
}

impl<S> Layer<S> for StoreHeader {
    type Service = WithStoreHeader<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithStoreHeader {
            inner,
            headers: self.0.clone(),
        }
    }
}

/// A service whose answers say which store this node has.
#[derive(Debug, Clone)]
pub struct WithStoreHeader<S> {
    inner: S,
    headers: HeaderMap,
}

impl<S, Q, A> Service<Request<Q>> for WithStoreHeader<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (answer, headers) = (self.inner.call(request), self.headers.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().extend(headers);
            Ok(answer)
        })
    }
}
