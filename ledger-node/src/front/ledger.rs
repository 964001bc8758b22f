//! The ledger itself: `LedgerService`.

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{LeafIndex, TreeHash, TreeSize};
use ledger_core::machine;
use ledger_core::state::{Key, read};
use ledger_core::tree::proof::{Prover, TileReader};
use ledger_core::tree::tile::{TILE_WIDTH, Tile, row_len};
use ledger_proto::v1::{
    self, ErrorReason, ReceiptLevel, command::Body, ledger_service_server::LedgerService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response};

use super::entries;
use super::evidence;
use super::follow::{BUFFER, Follower};
use super::gate::{self, Gate, deadline};
use super::listing::Filter;
use super::paging::Page;
use super::proving::unproven;
use super::sending::pieces;
use crate::cosign::TrustPolicies;
use crate::failure::{Answer, Failure, Pieces, Reply, argument, not_found};
use crate::storage::view::View;

/// The highest level of tiles that a ledger can have.
const MAX_LEVEL: u32 = 7;
/// Trust steps of one page: each is an entry of up to 60 KB and a checkpoint.
const MAX_STEPS: usize = 32;

/// Checkpoints of one page: each has up to 2 KiB, and those of a page fit a message.
const MAX_CHECKPOINTS: usize = 500;

/// The service.
#[derive(Debug, Clone)]
pub struct Log(pub Gate);

#[tonic::async_trait]
impl LedgerService for Log {
    async fn get_entry(
        &self,
        request: Request<v1::GetEntryRequest>,
    ) -> Reply<v1::GetEntryResponse> {
        Ok(Response::new(entries::get(&self.0, request).await?))
    }

    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Reply<v1::ListEntriesResponse> {
        Ok(Response::new(entries::list(&self.0, request).await?))
    }

    type FollowStream = Pieces<v1::FollowResponse>;

    async fn follow(&self, request: Request<v1::FollowRequest>) -> Reply<Self::FollowStream> {
        let opened = self.0.open(request, entries::any()).await?;
        let follower = Follower {
            gate: self.0.clone(),
            _place: self.0.follows.enter(&opened.reader.identity)?,
            reader: opened.reader,
            filter: Filter::parse(opened.request.filter)?,
            level: gate::level(opened.request.receipt_level)?,
            next: opened.request.start_index,
        };
        let (answers, receiver) = mpsc::channel(BUFFER);
        tokio::spawn(follower.run(answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Reply<v1::GetInclusionProofResponse> {
        let deadline = deadline(request.metadata());
        let (request, view) = (request.into_inner(), self.0.ledger.view());
        let hash = TreeHash::of_origin(self.0.ledger.origin());
        let work = move || inclusion(&view, hash, request);
        Ok(Response::new(self.0.work_open(deadline, work).await?))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Reply<v1::GetConsistencyProofResponse> {
        let deadline = deadline(request.metadata());
        let (request, view) = (request.into_inner(), self.0.ledger.view());
        let hash = TreeHash::of_origin(self.0.ledger.origin());
        let work = move || consistency(&view, hash, request);
        Ok(Response::new(self.0.work_open(deadline, work).await?))
    }

    async fn get_tile(&self, request: Request<v1::GetTileRequest>) -> Reply<v1::GetTileResponse> {
        let deadline = deadline(request.metadata());
        let (request, view) = (request.into_inner(), self.0.ledger.view());
        let work = move || tile(&view, request);
        Ok(Response::new(self.0.work_open(deadline, work).await?))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Reply<v1::GetCheckpointResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let level = match ReceiptLevel::try_from(request.receipt_level) {
            Ok(ReceiptLevel::Committed) => ReceiptLevel::Committed,
            Ok(ReceiptLevel::Unspecified | ReceiptLevel::Cosigned) => ReceiptLevel::Cosigned,
            Err(_) => return Err(argument("`receipt_level` is not a level").into()),
        };
        let ledger = &self.0.ledger;
        let min = TreeSize(request.min_tree_size);
        let (note, size) = ledger.checkpoint(min, level, deadline).await?;
        ledger.at_least(size, deadline).await?;
        let view = ledger.view();
        let work = move || epoch_at(&view, size);
        let trust_epoch = self.0.work_open(deadline, work).await?;
        Ok(Response::new(v1::GetCheckpointResponse {
            checkpoint: note.to_string(),
            trust_epoch,
        }))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Reply<v1::ListCheckpointsResponse> {
        let deadline = deadline(request.metadata());
        let (request, ledger) = (request.into_inner(), self.0.ledger.clone());
        let work = move || checkpoints(&ledger, &request);
        Ok(Response::new(self.0.work_open(deadline, work).await?))
    }

    async fn list_trust_steps(
        &self,
        request: Request<v1::ListTrustStepsRequest>,
    ) -> Reply<v1::ListTrustStepsResponse> {
        let deadline = deadline(request.metadata());
        let (request, ledger) = (request.into_inner(), self.0.ledger.clone());
        let work = move || trust_steps(&ledger, &request);
        Ok(Response::new(self.0.work_open(deadline, work).await?))
    }

    type GetEvidenceStream = Pieces<v1::GetEvidenceResponse>;

    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Reply<Self::GetEvidenceStream> {
        let file = evidence::get(&self.0, request).await?;
        Ok(Response::new(pieces(file, |chunk| {
            v1::GetEvidenceResponse { chunk }
        })))
    }

    async fn erase(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::Erase(_));
        self.0.govern(request, fits).await
    }

    async fn get_erasure(
        &self,
        request: Request<v1::GetErasureRequest>,
    ) -> Reply<v1::GetErasureResponse> {
        let leaf = LeafIndex(request.get_ref().index);
        let answer = self
            .0
            .read(request, None, |opened| entries::erasure(&opened));
        let mut answer = answer.await?;
        let states = self.0.ledger.erasure_states(leaf).await?;
        for node in &mut answer.nodes {
            if let Some(state) = states.get(&node.node_id) {
                node.set_state(*state);
            }
        }
        Ok(Response::new(answer))
    }
}

/// Refuses a size that the tree has not reached.
fn within(view: &View, size: u64) -> Answer<()> {
    if size <= machine::tip(view)?.size.0 {
        return Ok(());
    }
    Err(Failure::new(
        ErrorReason::BeyondTree,
        "the tree is not that large yet; ask again later, or for a smaller one",
    ))
}

fn to_path(hashes: &[ledger_core::hash::Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}

fn inclusion(
    view: &View,
    hash: TreeHash,
    ask: v1::GetInclusionProofRequest,
) -> Answer<v1::GetInclusionProofResponse> {
    within(view, ask.tree_size)?;
    let tiles = StateTiles(view);
    let mut prover = Prover::new(&tiles, hash, TreeSize(ask.tree_size));
    let path = prover.inclusion(LeafIndex(ask.index)).map_err(unproven)?;
    let leaf = ledger_core::ledger::entry_bytes(view, LeafIndex(ask.index))?;
    let leaf = leaf.ok_or_else(|| not_found("leaf"))?;
    Ok(v1::GetInclusionProofResponse {
        leaf_hash: hash.leaf(&leaf).as_bytes().to_vec(),
        path: to_path(&path),
    })
}

fn consistency(
    view: &View,
    hash: TreeHash,
    ask: v1::GetConsistencyProofRequest,
) -> Answer<v1::GetConsistencyProofResponse> {
    if ask.old_tree_size == 0 {
        return Err(argument("`old_tree_size` is at least 1"));
    }
    within(view, ask.new_tree_size)?;
    let tiles = StateTiles(view);
    let mut prover = Prover::new(&tiles, hash, TreeSize(ask.new_tree_size));
    let path = prover.consistency(TreeSize(ask.old_tree_size));
    Ok(v1::GetConsistencyProofResponse {
        path: to_path(&path.map_err(unproven)?),
    })
}

fn tile(view: &View, ask: v1::GetTileRequest) -> Answer<v1::GetTileResponse> {
    let invalid = || argument("`level` is at most 7, `width` at most 256");
    let level = u8::try_from(ask.level.min(MAX_LEVEL + 1)).map_err(|_| invalid())?;
    let width = match ask.width {
        0 => TILE_WIDTH,
        width => u16::try_from(width).map_err(|_| invalid())?,
    };
    if ask.level > MAX_LEVEL {
        return Err(invalid());
    }
    let tile = Tile::new(level, ask.index, width).map_err(|_| invalid())?;
    let end = ask
        .index
        .checked_mul(u64::from(TILE_WIDTH))
        .and_then(|first| first.checked_add(u64::from(width)));
    let there = row_len(machine::tip(view)?.size, level);
    if end.is_none_or(|end| end > there) {
        within(view, u64::MAX)?;
    }
    let hashes = StateTiles(view).read_tile(&tile);
    let hashes = hashes.map_err(|error| unproven(error.into()))?;
    Ok(v1::GetTileResponse {
        hashes: hashes.iter().flat_map(|hash| *hash.as_bytes()).collect(),
    })
}

/// The epoch of the trust policy that holds for a tree: that of the last change within it.
pub(super) fn epoch_at(view: &View, size: TreeSize) -> Answer<u64> {
    Ok(TrustPolicies::read(view, size)?.epoch())
}

fn checkpoints(
    ledger: &crate::ledger::Ledger,
    request: &v1::ListCheckpointsRequest,
) -> Answer<v1::ListCheckpointsResponse> {
    let page = Page::of(request)?;
    let limit = page.size.min(MAX_CHECKPOINTS);
    let mut kept = ledger.kept_checkpoints(page.after_number()?, limit.saturating_add(1))?;
    let is_cut = kept.len() > limit;
    kept.truncate(limit);
    let last = kept.last().map(|(size, _)| size.0.to_be_bytes());
    let position = last.as_ref().filter(|_| is_cut);
    Ok(v1::ListCheckpointsResponse {
        next_page_token: page.token(position.map(<[u8; 8]>::as_slice)),
        checkpoints: kept.into_iter().map(|(_, note)| note).collect(),
    })
}

pub(crate) fn trust_steps(
    ledger: &crate::ledger::Ledger,
    request: &v1::ListTrustStepsRequest,
) -> Answer<v1::ListTrustStepsResponse> {
    let page = Page::of(request)?;
    let view = ledger.view();
    let record: v1::LedgerRecord = read(&view, &Key::ledger())?.unwrap_or_default();
    let mut last = page.after_number()?.unwrap_or(request.after_epoch);
    let mut steps = Vec::new();
    while last < record.trust_epoch && steps.len() < page.size.min(MAX_STEPS) {
        let epoch = last + 1;
        // A change that is not carried by cosignatures yet is not a step yet.
        let Some(checkpoint) = ledger.trust_checkpoint(epoch)? else {
            break;
        };
        let trust: Option<v1::TrustRecord> = read(&view, &Key::trust(epoch))?;
        let leaf = trust.ok_or_else(|| not_found("epoch"))?.leaf;
        let receipt = ledger_core::evidence::receipt(
            &view,
            LeafIndex(leaf),
            &checkpoint,
            ReceiptLevel::Cosigned,
        );
        steps.push(v1::TrustStep {
            entry: receipt.map_err(evidence::unbuilt)?.entry,
            checkpoint,
        });
        last = epoch;
    }
    let is_cut = steps.len() >= page.size.min(MAX_STEPS) && last < record.trust_epoch;
    let position = last.to_be_bytes();
    Ok(v1::ListTrustStepsResponse {
        trust_steps: steps,
        next_page_token: page.token(is_cut.then_some(position.as_slice())),
    })
}
