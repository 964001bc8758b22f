//! Evidence files, built here and sent in parts.
//!
//! The evidence of a decision holds the rules that decided, so it is for auditors and for owners, who answer for the agent;
//! agents and gateways have their receipts. The evidence of a session holds no rules.

use ledger_core::evidence::{self, BuildError, Sources};
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::id::SessionId;
use ledger_core::ledger;
use ledger_core::state::{Key, State as _, read};
use ledger_proto::v1::{self, CompartmentKind, ErrorReason, ReceiptLevel, get_evidence_request};
use prost::Message as _;
use tonic::Request;

use super::gate::{Gate, Opened};
use super::proving::unproven;
use super::rights::permitted;
use super::sending::File;
use crate::failure::{Answer, Failure, argument, not_found};
use crate::index::{self, List, Span};
use crate::ledger::Ledger;
use crate::storage::Direction;
use crate::storage::view::View;

/// Most entries of a session's evidence: with 1 KiB each, as many as a file can hold.
const MAX_SESSION_LEAVES: usize = 65_536;

/// Length for which room is made when the evidence of a decision is: a bundle of 8 MiB in 171 entries of up to 60,000 bytes, which
/// are 10 MiB, with proofs and what else is in it.
const DECISION_LEN: usize = 16 * 1024 * 1024;

/// Whom or what evidence is about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Decision(LeafIndex),
    Session(SessionId),
}

/// The file.
pub(super) async fn get(gate: &Gate, request: Request<v1::GetEvidenceRequest>) -> Answer<File> {
    let asked = request.get_ref();
    // Content may have been erased meanwhile, which a node that is cut off does not know.
    let consistency = asked.consistency.filter(|_| asked.compartments.is_empty());
    let opened = gate.open(request, consistency).await?;
    let (deadline, now_us) = (opened.deadline, gate.ledger.now_us());
    let look = move || {
        let kinds = kinds(&opened.request.compartments)?;
        let subject = subject(&opened.request)?;
        let last = last_leaf(&opened, subject, !kinds.is_empty(), now_us)?;
        let len = length(&opened.view, subject, &kinds)?;
        Ok((subject, kinds, last, opened.request.trust_epoch, len))
    };
    let (subject, kinds, last, epoch, len) = gate.work(deadline, look).await?;
    let min = TreeSize(last.saturating_add(1));
    let level = ReceiptLevel::Cosigned;
    let ledger = gate.ledger.clone();
    let (note, size) = ledger.checkpoint(min, level, deadline).await?;
    ledger.at_least(size, deadline).await?;
    let share = gate.evidence.take(len, deadline).await?;
    let build = move || {
        let view = ledger.view();
        let trust_checkpoints = trust_checkpoints(&ledger, &view, epoch, size)?;
        let sources = Sources {
            state: &view,
            checkpoint: &note,
            trust_checkpoints: &trust_checkpoints,
            compartments: &kinds,
        };
        let built = match subject {
            Subject::Decision(leaf) => evidence::decision(sources, leaf),
            Subject::Session(id) => evidence::session(sources, id, &session_leaves(&view, id)?),
        };
        let file = evidence::encode(&built.map_err(unbuilt)?);
        if file.len() > evidence::MAX_EVIDENCE_LEN {
            return Err(too_long());
        }
        Ok(File::within(file, share))
    };
    gate.work(deadline, build).await
}

fn kinds(numbers: &[i32]) -> Answer<Vec<CompartmentKind>> {
    let ascending = numbers.windows(2).all(|pair| pair.first() < pair.last());
    let kinds: Option<Vec<CompartmentKind>> = numbers
        .iter()
        .map(|number| CompartmentKind::try_from(*number).ok())
        .collect();
    kinds
        .filter(|kinds| ascending && !kinds.contains(&CompartmentKind::Unspecified))
        .ok_or_else(|| argument("`compartments` are kinds, ascending and distinct"))
}

fn subject(request: &v1::GetEvidenceRequest) -> Answer<Subject> {
    match &request.subject {
        Some(get_evidence_request::Subject::Decision(leaf)) => {
            Ok(Subject::Decision(LeafIndex(*leaf)))
        }
        Some(get_evidence_request::Subject::SessionId(id)) => SessionId::from_slice(id)
            .map(Subject::Session)
            .map_err(|_| argument("`session_id` has 16 bytes")),
        None => Err(argument("name a decision or a session")),
    }
}

/// Checks that the reader may have the evidence, and finds the last leaf that it will hold.
fn last_leaf(
    opened: &Opened<v1::GetEvidenceRequest>,
    subject: Subject,
    with_content: bool,
    now_us: u64,
) -> Answer<u64> {
    let (view, reader) = (&opened.view, &opened.reader);
    match subject {
        Subject::Decision(leaf) => {
            let entry = ledger::entry(view, leaf)?.ok_or_else(|| not_found("decision"))?;
            let about = index::about(view, &entry)?;
            permitted(reader.may_read_content(view, &entry, &about, now_us)?)?;
            let outcome: Option<v1::LeafRecord> = read(view, &Key::outcome_of(leaf))?;
            let redemption: Option<v1::LeafRecord> = read(view, &Key::redemption_of(leaf))?;
            let later = outcome.into_iter().chain(redemption);
            Ok(later.map(|record| record.leaf).max().unwrap_or(leaf.0))
        }
        Subject::Session(id) => {
            let session: Option<v1::SessionRecord> = read(view, &Key::session(id))?;
            let session = session.ok_or_else(|| not_found("session"))?;
            permitted(reader.may_read_session(view, &session)?)?;
            if with_content {
                let agent = ledger_core::id::Identity::Agent(session.agent.clone());
                let audits = reader.holds(&[v1::Role::Auditor], &session.namespace);
                permitted(audits || reader.owns(view, &agent)?)?;
            }
            Ok(session_leaves(view, id)?
                .last()
                .map_or(session.leaf, |leaf| leaf.0))
        }
    }
}

fn session_leaves(view: &View, id: SessionId) -> Answer<Vec<LeafIndex>> {
    let all = Span {
        from: 0,
        until: u64::MAX,
        direction: Direction::Ascending,
    };
    let leaves = index::leaves(view, &List::session(id), all, MAX_SESSION_LEAVES)?;
    if leaves.len() >= MAX_SESSION_LEAVES {
        return Err(too_long());
    }
    Ok(leaves
        .into_iter()
        .map(|(leaf, _)| LeafIndex(leaf))
        .collect())
}

/// About how long a file will be. Refuses one that is too long before it is in memory: entries and content of a long session may be
/// gigabytes.
fn length(view: &View, subject: Subject, kinds: &[CompartmentKind]) -> Answer<usize> {
    let id = match subject {
        Subject::Decision(_) => return Ok(DECISION_LEN),
        Subject::Session(id) => id,
    };
    let mut len = 0_usize;
    for leaf in session_leaves(view, id)? {
        let entry = ledger::entry(view, leaf)?;
        // Late entries are in no evidence of their session.
        let late = |entry: &v1::Entry| ledger_core::entry::chain(entry).is_some_and(|at| at.late);
        let Some(entry) = entry.filter(|entry| !late(entry)) else {
            continue;
        };
        len = len.saturating_add(entry.encoded_len());
        for kind in kinds {
            let stored = view.get(Key::compartment(leaf, *kind).as_bytes())?;
            len = len.saturating_add(stored.map_or(0, |stored| stored.len()));
        }
        if len > evidence::MAX_EVIDENCE_LEN {
            return Err(too_long());
        }
    }
    Ok(len)
}

fn too_long() -> Failure {
    argument("this session is too long for one evidence file")
}

/// The changes of the trust policy from the verifier's epoch to the checkpoint's.
fn trust_checkpoints(
    ledger: &Ledger,
    view: &View,
    epoch: u64,
    size: TreeSize,
) -> Answer<Vec<(u64, String)>> {
    let last = super::ledger::epoch_at(view, size)?;
    (epoch.saturating_add(1)..=last)
        .map(|epoch| {
            let checkpoint = ledger.trust_checkpoint(epoch)?.ok_or_else(|| {
                Failure::new(
                    ErrorReason::NotReady,
                    "the newest change of the trust policy is not cosigned yet; ask again",
                )
            })?;
            Ok((epoch, checkpoint))
        })
        .collect()
}

/// Why evidence or a receipt could not be built.
#[must_use]
pub(super) fn unbuilt(error: BuildError) -> Failure {
    match error {
        BuildError::NotFound(what) => not_found(what),
        BuildError::NotCovered { .. } => Failure::new(ErrorReason::BeyondTree, error.to_string()),
        BuildError::SessionOpen => argument(error.to_string()),
        BuildError::Proof(error) => unproven(error),
        BuildError::State(error) => error.into(),
        BuildError::Note(_) | BuildError::Checkpoint(_) => {
            tracing::error!(%error, "a checkpoint of this node does not parse");
            Failure::new(
                ErrorReason::Internal,
                "a defect of this node; ask another one",
            )
        }
    }
}
