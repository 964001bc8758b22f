//! What decides: `PolicyService`.

use ledger_core::hash::LeafIndex;
use ledger_core::ledger;
use ledger_core::state::{Family, Key, StateError, read};
use ledger_proto::v1::{
    self, CompileState, Role, command::Body, policy_service_server::PolicyService,
};
use policy_engine::{BundleDigest, limits::MAX_BUNDLE_BYTES};
use tonic::{Request, Response};

use super::gate::{Gate, Opened, as_of};
use super::paging::{Page, records};
use super::sending::{File, pieces};
use crate::failure::{Answer, Failure, Pieces, Reply, argument, not_found};
use crate::ledger::Ledger;
use crate::storage::view::View;

/// Who may read rules.
const READERS: [Role; 2] = [Role::Policy, Role::Auditor];
/// Findings about a bundle in an answer.
const MAX_DIAGNOSTICS: usize = 64;

/// The service.
#[derive(Debug, Clone)]
pub struct Policy(pub Gate);

#[tonic::async_trait]
impl PolicyService for Policy {
    async fn publish_bundle(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::PublishBundle(_));
        self.0.govern(request, fits).await
    }

    async fn activate_bundle(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::ActivateBundle(_));
        self.0.govern(request, fits).await
    }

    async fn set_halt(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::SetHalt(_));
        self.0.govern(request, fits).await
    }

    async fn clear_halt(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::ClearHalt(_));
        self.0.govern(request, fits).await
    }

    type GetBundleStream = Pieces<v1::GetBundleResponse>;

    async fn get_bundle(
        &self,
        request: Request<v1::GetBundleRequest>,
    ) -> Reply<Self::GetBundleStream> {
        let opened = self.0.open(request, None).await?;
        let deadline = opened.deadline;
        // It stays in memory until it is read, as evidence does.
        let share = self.0.evidence.take(MAX_BUNDLE_BYTES, deadline).await?;
        let look = move || packed(&opened);
        let (digest, bytes) = self.0.work(deadline, look).await?;
        let mut digest = digest.0.to_vec();
        let file = File::within(bytes, share);
        Ok(Response::new(pieces(file, move |chunk| {
            v1::GetBundleResponse {
                digest: std::mem::take(&mut digest),
                chunk,
            }
        })))
    }

    async fn list_bundles(
        &self,
        request: Request<v1::ListBundlesRequest>,
    ) -> Reply<v1::ListBundlesResponse> {
        let consistency = request.get_ref().consistency;
        let ledger = self.0.ledger.clone();
        let answer = self.0.read(request, consistency, move |opened| {
            bundles(&opened, &ledger)
        });
        Ok(Response::new(answer.await?))
    }

    async fn list_halts(
        &self,
        request: Request<v1::ListHaltsRequest>,
    ) -> Reply<v1::ListHaltsResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self.0.read(request, consistency, |opened| halts(&opened));
        Ok(Response::new(answer.await?))
    }
}

fn packed(opened: &Opened<v1::GetBundleRequest>) -> Answer<(BundleDigest, Vec<u8>)> {
    let (request, view) = (&opened.request, &opened.view);
    let name = &request.namespace;
    opened.reader.require(&READERS, name)?;
    let digest = if request.digest.is_empty() {
        let namespace: Option<v1::NamespaceRecord> = read(view, &Key::namespace(name))?;
        namespace.unwrap_or_default().active_digest
    } else {
        request.digest.clone()
    };
    if digest.is_empty() {
        return Err(not_found("active bundle"));
    }
    let digest = digest
        .try_into()
        .map(BundleDigest)
        .map_err(|_: Vec<u8>| argument("`digest` has 32 bytes, or none"))?;
    let record: Option<v1::BundleRecord> = read(view, &Key::bundle(name, &digest))?;
    let record = record.filter(|record| record.complete);
    let record = record.ok_or_else(|| not_found("published bundle"))?;
    let mut bytes = Vec::new();
    for chunk in 0..record.chunk_count {
        bytes.extend_from_slice(&chunk_bytes(
            view,
            &Key::bundle_chunk(name, &digest, chunk),
        )?);
    }
    Ok((digest, bytes))
}

/// The bytes of a chunk, from the entry that published it.
fn chunk_bytes(view: &View, key: &Key) -> Answer<Vec<u8>> {
    let leaf: Option<v1::LeafRecord> = read(view, key)?;
    let entry = match leaf {
        Some(leaf) => ledger::entry(view, LeafIndex(leaf.leaf))?,
        None => None,
    };
    let command = entry.and_then(|entry| ledger_core::entry::command(&entry).ok().flatten());
    match command.and_then(|command| command.body) {
        Some(Body::PublishBundle(publish)) => Ok(publish.chunk),
        _ => Err(Failure::from(StateError::damaged(
            key,
            "a chunk of a published bundle is missing",
        ))),
    }
}

fn bundles(
    opened: &Opened<v1::ListBundlesRequest>,
    ledger: &Ledger,
) -> Answer<v1::ListBundlesResponse> {
    let (request, view) = (&opened.request, &opened.view);
    let page = Page::of(request)?;
    opened.reader.require(&READERS, &request.namespace)?;
    let namespace: Option<v1::NamespaceRecord> = read(view, &Key::namespace(&request.namespace))?;
    let active = namespace.unwrap_or_default().active_digest;
    let make = |rest: &[u8], record: v1::BundleRecord| {
        let Ok(digest) = rest.try_into().map(BundleDigest) else {
            return Ok(None);
        };
        let (state, mut diagnostics) = if record.received < record.chunk_count {
            (CompileState::Incomplete, Vec::new())
        } else {
            ledger.compile_state(&request.namespace, &digest)
        };
        diagnostics.truncate(MAX_DIAGNOSTICS);
        Ok(Some(v1::Bundle {
            digest: rest.to_vec(),
            record: Some(record),
            active: active == rest,
            compile_state: state.into(),
            diagnostics,
        }))
    };
    let prefix = Key::bundles(&request.namespace);
    let (bundles, next_page_token) = records(view, &prefix, &page, make)?;
    Ok(v1::ListBundlesResponse {
        bundles,
        next_page_token,
        as_of: as_of(view)?,
    })
}

fn halts(opened: &Opened<v1::ListHaltsRequest>) -> Answer<v1::ListHaltsResponse> {
    let page = Page::of(&opened.request)?;
    let make = |rest: &[u8], record: v1::HaltRecord| {
        Ok(Some(v1::Halt {
            id: String::from_utf8_lossy(rest).into_owned(),
            record: Some(record),
        }))
    };
    let prefix = Key::family(Family::Halt);
    let (halts, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListHaltsResponse {
        halts,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}
