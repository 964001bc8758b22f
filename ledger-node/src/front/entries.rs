//! Single entries, lists of them, and what became of an erasure.

use ledger_core::evidence;
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::id::{Identity, RequestId};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::state::{Key, read};
use ledger_core::{ledger, machine};
use ledger_proto::v1::{
    self, CompartmentKind, ReceiptLevel, Role, consistency::Requirement, entry::Body,
    get_entry_request, governance::Detail,
};
use tonic::Request;

use super::evidence::unbuilt;
use super::follow::fitting;
use super::gate::{Gate, Opened, Proving, as_of, level};
use super::listing::{Filter, Found, find};
use super::paging::{MAX_LOOKED_AT, Page, foreign};
use super::proving::prove;
use super::rights::{Reader, permitted};
use crate::failure::{Answer, argument, not_found};
use crate::index::{self, Span};
use crate::storage::Direction;
use crate::storage::view::View;

/// No freshness: for reads that are answered from a checkpoint.
pub(super) const fn any() -> Option<v1::Consistency> {
    Some(v1::Consistency {
        requirement: Some(Requirement::MinimizeLatency(true)),
    })
}

/// One entry, proven.
pub(super) async fn get(
    gate: &Gate,
    request: Request<v1::GetEntryRequest>,
) -> Answer<v1::GetEntryResponse> {
    let asked = request.get_ref();
    // Content may have been erased meanwhile, which a node that is cut off does not know.
    let consistency = asked.consistency.filter(|_| !asked.with_compartments);
    let opened = gate.open(request, consistency).await?;
    let level = level(opened.request.receipt_level)?;
    let (deadline, now_us) = (opened.deadline, gate.ledger.now_us());
    let look = move || {
        let leaf = locate(&opened.view, &opened.request)?;
        let opened = may_open(opened, leaf, now_us)?;
        Ok((leaf, opened))
    };
    let (leaf, opened) = gate.work(deadline, look).await?;
    let size = TreeSize(leaf.0.saturating_add(1));
    let proving = gate.checkpoint(size, level, deadline).await?;
    let answer = move || hand_out(&proving, leaf, opened.request.with_compartments);
    gate.work(deadline, answer).await
}

/// The leaf that a request names.
fn locate(view: &View, request: &v1::GetEntryRequest) -> Answer<LeafIndex> {
    match &request.key {
        Some(get_entry_request::Key::Index(index)) => Ok(LeafIndex(*index)),
        Some(get_entry_request::Key::Request(named)) => {
            let author = named.author.as_ref().map(Identity::parse);
            let author = author.and_then(Result::ok);
            let author = author.ok_or_else(|| argument("`author` is not an identity"))?;
            let id = RequestId::from_slice(&named.request_id)
                .map_err(|_| argument("`request_id` has 16 bytes"))?;
            machine::find_request(view, &author, id)?.ok_or_else(|| not_found("request"))
        }
        None => Err(argument("name an index or a request")),
    }
}

/// Checks that the reader may read the entry, and its compartments if they are asked for.
fn may_open(
    opened: Opened<v1::GetEntryRequest>,
    leaf: LeafIndex,
    now_us: u64,
) -> Answer<Opened<v1::GetEntryRequest>> {
    let view = &opened.view;
    let entry = ledger::entry(view, leaf)?.ok_or_else(|| not_found("entry"))?;
    let about = index::about(view, &entry)?;
    let reader = &opened.reader;
    permitted(if opened.request.with_compartments {
        reader.may_read_content(view, &entry, &about, now_us)?
    } else {
        reader.may_read_entry(view, &entry, &about, now_us)?
    })?;
    Ok(opened)
}

fn hand_out(
    proving: &Proving,
    leaf: LeafIndex,
    with_compartments: bool,
) -> Answer<v1::GetEntryResponse> {
    // The newest state: what was erased meanwhile is not handed out.
    let view = &proving.view;
    let entry = ledger::entry(view, leaf)?.ok_or_else(|| not_found("entry"))?;
    let (mut compartments, mut erased) = (Vec::new(), Vec::new());
    for number in &entry.stored {
        let kind = CompartmentKind::try_from(*number).unwrap_or_default();
        match read::<v1::Compartment>(view, &Key::compartment(leaf, kind))? {
            Some(compartment) if with_compartments => compartments.push(compartment),
            Some(_) => {}
            None => erased.push(*number),
        }
    }
    let receipt = evidence::receipt(view, leaf, &proving.note, proving.level);
    Ok(v1::GetEntryResponse {
        receipt: Some(receipt.map_err(unbuilt)?),
        compartments,
        erased,
        as_of: as_of(view)?,
    })
}

/// A page of entries. The token carries the checkpoint, so that all pages are of one tree whatever node answers.
pub(super) async fn list(
    gate: &Gate,
    request: Request<v1::ListEntriesRequest>,
) -> Answer<v1::ListEntriesResponse> {
    let opened = gate.open(request, any()).await?;
    let page = Page::of(&opened.request)?;
    let filter = Filter::parse(opened.request.filter.clone())?;
    let level = level(opened.request.receipt_level)?;
    let deadline = opened.deadline;
    let direction = if opened.request.descending {
        Direction::Descending
    } else {
        Direction::Ascending
    };
    let (proving, span) = match page.after.as_deref() {
        None => {
            let proving = gate.checkpoint(TreeSize(1), level, deadline).await?;
            let until = proving.size.0;
            let span = Span {
                from: 0,
                until,
                direction,
            };
            (proving, span)
        }
        Some(position) => resume(gate, position, level, direction, deadline).await?,
    };
    let (origin, now_us) = (gate.ledger.origin().to_owned(), gate.ledger.now_us());
    let identity = opened.reader.identity;
    let work = move || {
        // Rights are those of the state that is shown, which is newer than the one that let the reader in.
        let reader = Reader::load(&proving.view, identity)?;
        let reader = reader.ok_or_else(super::read_auth::invalid)?;
        let view = &proving.view;
        let found = find(
            view,
            &reader,
            &filter,
            span,
            page.size,
            MAX_LOOKED_AT,
            now_us,
        )?;
        fill(&proving, &origin, &page, span, found)
    };
    gate.work(deadline, work).await
}

fn fill(
    proving: &Proving,
    origin: &str,
    page: &Page,
    span: Span,
    found: Found,
) -> Answer<v1::ListEntriesResponse> {
    let mut entries = prove(&proving.view, origin, proving.size, &found.leaves)?;
    let mut rest = found.rest;
    let fits = fitting(&entries);
    if fits < entries.len() {
        entries.truncate(fits);
        let last = entries.last().map(|entry| entry.index);
        rest = last.map(|leaf| super::listing::past(span, leaf));
    }
    let position = rest.map(|rest| position(rest, &proving.note));
    Ok(v1::ListEntriesResponse {
        entries,
        next_page_token: page.token(position.as_deref()),
        checkpoint: proving.note.to_string(),
    })
}

/// What is left of the span, and the checkpoint.
fn position(rest: Span, note: &str) -> Vec<u8> {
    let mut position = rest.from.to_be_bytes().to_vec();
    position.extend_from_slice(&rest.until.to_be_bytes());
    position.extend_from_slice(note.as_bytes());
    position
}

async fn resume(
    gate: &Gate,
    position: &[u8],
    level: ReceiptLevel,
    direction: Direction,
    deadline: std::time::Instant,
) -> Answer<(Proving, Span)> {
    let (from, rest) = position.split_first_chunk::<8>().ok_or_else(foreign)?;
    let (until, note) = rest.split_first_chunk::<8>().ok_or_else(foreign)?;
    let parsed = Note::parse(note).map_err(|_| foreign())?;
    let checkpoint = Checkpoint::parse(parsed.text()).map_err(|_| foreign())?;
    let span = Span {
        from: u64::from_be_bytes(*from),
        until: u64::from_be_bytes(*until),
        direction,
    };
    let size = checkpoint.size();
    if checkpoint.origin() != gate.ledger.origin() || span.from > span.until || span.until > size.0
    {
        return Err(foreign());
    }
    gate.ledger.at_least(size, deadline).await?;
    let note = String::from_utf8(note.to_vec()).map_err(|_| foreign())?;
    let proving = Proving {
        view: gate.ledger.view(),
        note: note.into(),
        size,
        level,
    };
    Ok((proving, span))
}

/// What an erasure erased, and all members; how far each of them has come is theirs to say.
pub(super) fn erasure(opened: &Opened<v1::GetErasureRequest>) -> Answer<v1::GetErasureResponse> {
    let view = &opened.view;
    let entry = ledger::entry(view, LeafIndex(opened.request.index))?;
    let namespace = entry.as_ref().map(ledger_core::entry::namespace);
    let namespace = namespace.unwrap_or_default();
    let roles = [Role::Privacy, Role::Auditor];
    opened.reader.require(&roles, namespace)?;
    let erasure = match entry.as_ref().and_then(|entry| entry.body.as_ref()) {
        Some(Body::Governance(governance)) => match &governance.detail {
            Some(Detail::Erasure(erasure)) => Some(*erasure),
            _ => None,
        },
        _ => None,
    };
    let erasure = erasure.ok_or_else(|| not_found("erasure"))?;
    let nodes = super::cluster::members(view)?
        .into_iter()
        .filter_map(|record| record.card)
        .map(|card| v1::NodeErasure {
            node_id: card.node_id,
            state: v1::ErasureState::Unspecified.into(),
        })
        .collect();
    Ok(v1::GetErasureResponse {
        erasure: Some(erasure),
        nodes,
    })
}
