//! `ledger-client audit`: the whole ledger, read from its first entry on and made again.

use std::io::Write;
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ledger_core::audit::{Auditor, Flaw, Sound};
use ledger_core::limits::MIN_STACK_LEN;
use ledger_core::machine::Refusal;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_proto::v1::{self, entry::Body};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Speaker, block_on_or};
use super::show::printable;
use super::{Exit, Failure, print_json};
use crate::client::Client;
use crate::error::Error;
use crate::paths;

/// Entries that wait to be read at most.
const QUEUE: usize = 256;
/// Entries whose compartments are fetched at a time.
const FETCHED_TOGETHER: usize = 32;
/// How often a stream that breaks off may be taken up again without an entry in between.
const ATTEMPTS: usize = 5;
/// The reading thread's stack in bytes: what applying commands needs, and room around it.
const STACK_LEN: usize = 4 * MIN_STACK_LEN;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Ask the rules again about every decision whose arguments are not erased.
    #[arg(long)]
    replay: bool,
    #[command(flatten)]
    connection: Connection,
}

/// An entry on its way to the thread that reads it.
struct Given {
    entry: Vec<u8>,
    compartments: Vec<v1::Compartment>,
}

/// What was read.
#[derive(Debug, Default)]
struct Count {
    decisions: u64,
    believed: u64,
    outcomes: u64,
    drifted: u64,
    sessions: u64,
    signatures: u64,
}

pub(super) fn audit(audit: &Audit, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bar = progress();
    let work = async {
        let client = audit.connection.open(Speaker::Any).await?;
        let count = Count::default();
        let add = |count: &mut Count, entry: &v1::Entry, _: Vec<v1::Compartment>, sound: Sound| {
            add(count, entry, sound.believed);
        };
        every_entry(&client, audit.replay, &bar, count, add).await
    };
    let (checkpoint, count) = block_on_or(work, || {
        format!(
            "interrupted; the first {} entries are sound",
            bar.position()
        )
    })?;
    show(&checkpoint, &count, audit.replay, json, out)?;
    Ok(Exit::Done)
}

fn show(
    checkpoint: &Checkpoint,
    count: &Count,
    replay: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let asked_again = if replay {
        count.decisions.saturating_sub(count.believed)
    } else {
        0
    };
    let size = checkpoint.size().0;
    if json {
        let value = json!({
            "origin": checkpoint.origin(),
            "entries": size,
            "root": checkpoint.root().to_string(),
            "signatures": count.signatures,
            "decisions": count.decisions,
            "re_evaluated": asked_again,
            "not_re_evaluated": count.decisions.saturating_sub(asked_again),
            "outcomes": count.outcomes,
            "drifted": count.drifted,
            "sessions": count.sessions,
            "sound": true,
        });
        return print_json(out, &value);
    }
    writeln!(
        out,
        "sound           {size} entries of {}",
        checkpoint.origin()
    )?;
    writeln!(out, "root            {}, cosigned", checkpoint.root())?;
    writeln!(out, "signatures      {}", count.signatures)?;
    if replay {
        let erased = count.decisions.saturating_sub(asked_again);
        writeln!(
            out,
            "decisions       {}: {asked_again} evaluated again with the same result, {erased} not: erased",
            count.decisions
        )?;
    } else {
        writeln!(
            out,
            "decisions       {}; `--replay` evaluates them again",
            count.decisions
        )?;
    }
    writeln!(
        out,
        "outcomes        {}, {} with drift",
        count.outcomes, count.drifted
    )?;
    writeln!(
        out,
        "sessions        {}, their chains unbroken",
        count.sessions
    )?;
    Ok(())
}

/// Shown on a terminal only.
pub(super) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {per_sec}, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads every entry up to a checkpoint that a quorum vouches for, makes it again, and adds it to what was seen before. With
/// content, what is kept beside entries is fetched too. Nothing comes back unless all of it is sound.
pub(super) async fn every_entry<S: Send + 'static>(
    client: &Client,
    with_content: bool,
    bar: &ProgressBar,
    seen: S,
    add: impl Fn(&mut S, &v1::Entry, Vec<v1::Compartment>, Sound) + Send + 'static,
) -> Result<(Checkpoint, S), Failure> {
    let (note, checkpoint) = client.checkpoint(0).await?;
    client.observe(&note, &checkpoint).await?;
    bar.set_length(checkpoint.size().0);
    let reader = Reader {
        checkpoint: checkpoint.clone(),
        bar: bar.clone(),
        seen,
        add,
    };
    let seen = read(client, with_content, reader).await?;
    bar.finish_and_clear();
    Ok((checkpoint, seen))
}

/// Fetches entries up to a checkpoint and has them read on a thread of their own.
async fn read<S: Send + 'static, A>(
    client: &Client,
    with_content: bool,
    reader: Reader<S, A>,
) -> Result<S, Failure>
where
    A: Fn(&mut S, &v1::Entry, Vec<v1::Compartment>, Sound) + Send + 'static,
{
    let (give, given) = mpsc::channel(QUEUE);
    let (done, result) = oneshot::channel();
    let size = reader.checkpoint.size().0;
    thread::Builder::new()
        .name("auditor".to_owned())
        .stack_size(STACK_LEN)
        .spawn(move || {
            // Nobody waits for the result of an audit that was given up.
            let _ = done.send(reader.read_all(given));
        })
        .map_err(|error| Failure::new(Exit::Internal, format!("no thread can be made: {error}")))?;
    let fed = feed(client, size, with_content, give).await;
    match result.await {
        // What the thread found wrong is worth more than that nothing more could be fetched.
        Ok(Err(flaw)) => Err(flaw),
        Ok(Ok(Some(seen))) => Ok(seen),
        Ok(Ok(None)) => Err(fed.err().unwrap_or_else(|| {
            let what = "the node has shown fewer entries than its checkpoint counts; ask another";
            Failure::new(Exit::Unavailable, what)
        })),
        Err(_) => Err(Failure::new(
            Exit::Internal,
            "the auditor's thread broke down",
        )),
    }
}

/// Streams entries to the thread; ends early if the thread does.
async fn feed(
    client: &Client,
    size: u64,
    replay: bool,
    give: mpsc::Sender<Given>,
) -> Result<(), Failure> {
    let mut next = 0;
    let mut failures = 0;
    while next < size {
        let before = next;
        let ended = follow(client, &mut next, size, replay, &give).await;
        let Err(error) = ended else { return Ok(()) };
        failures = if next > before { 0 } else { failures + 1 };
        if failures >= ATTEMPTS || matches!(error, Error::NotPermitted(_) | Error::Invalid(_)) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Follows the ledger from an entry on, to the end or until the stream breaks off.
async fn follow(
    client: &Client,
    next: &mut u64,
    size: u64,
    replay: bool,
    give: &mpsc::Sender<Given>,
) -> Result<(), Error> {
    let message = v1::FollowRequest {
        start_index: *next,
        ..v1::FollowRequest::default()
    };
    let stream = client.read_stream(paths::FOLLOW, message, client.deadline());
    let mut parts: tonic::Streaming<v1::FollowResponse> = stream.await?.answer;
    let broken = |why: &str| Error::Unavailable(format!("the stream of entries broke off: {why}"));
    while *next < size {
        let part = parts.message().await;
        let part = part.map_err(|status| broken(status.message()))?;
        let part = part.ok_or_else(|| broken("it ended"))?;
        for entries in part.entries.chunks(FETCHED_TOGETHER) {
            let fetched: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let (client, index) = (client.clone(), entry.index);
                    let wanted = replay && has_compartments(&entry.entry);
                    tokio::spawn(async move {
                        if wanted {
                            compartments(&client, index).await
                        } else {
                            Ok(Vec::new())
                        }
                    })
                })
                .collect();
            for (entry, fetched) in entries.iter().zip(fetched) {
                let compartments = fetched
                    .await
                    .map_err(|error| Error::Internal(error.to_string()))??;
                if *next == size {
                    return Ok(());
                }
                if entry.index != *next {
                    return Err(Error::NotPermitted(format!(
                        "entry {next} is not shown to this identity; an audit needs the role auditor for `*`"
                    )));
                }
                let given = Given {
                    entry: entry.entry.clone(),
                    compartments,
                };
                if give.send(given).await.is_err() {
                    return Ok(());
                }
                *next += 1;
            }
        }
        if part.next_index > *next && *next < size {
            return Err(Error::NotPermitted(format!(
                "entry {next} is not shown to this identity; an audit needs the role auditor for `*`"
            )));
        }
    }
    Ok(())
}

/// True if the entry says that something is stored beside it; the thread finds out about bytes that are no entry.
fn has_compartments(entry: &[u8]) -> bool {
    ledger_core::entry::decode(entry).is_ok_and(|entry| !entry.stored.is_empty())
}

async fn compartments(client: &Client, index: u64) -> Result<Vec<v1::Compartment>, Error> {
    let message = v1::GetEntryRequest {
        key: Some(v1::get_entry_request::Key::Index(index)),
        with_compartments: true,
        ..v1::GetEntryRequest::default()
    };
    let answer: v1::GetEntryResponse = client.read(paths::GET_ENTRY, message).await?;
    Ok(answer.compartments)
}

/// What the thread needs, and what it has seen.
struct Reader<S, A> {
    checkpoint: Checkpoint,
    bar: ProgressBar,
    seen: S,
    add: A,
}

impl<S, A: Fn(&mut S, &v1::Entry, Vec<v1::Compartment>, Sound)> Reader<S, A> {
    /// Reads what is given until the end, and compares the root with that of the checkpoint; none if not everything was given.
    fn read_all(mut self, mut given: mpsc::Receiver<Given>) -> Result<Option<S>, Failure> {
        let mut auditor = Auditor::new();
        while let Some(Given {
            entry,
            compartments,
        }) = given.blocking_recv()
        {
            let at = auditor.size().0;
            let sound = auditor
                .read(&entry, compartments.clone())
                .map_err(|flaw| failed(at, &flaw))?;
            if let Ok(entry) = ledger_core::entry::decode(&entry) {
                (self.add)(&mut self.seen, &entry, compartments, sound);
            }
            self.bar.inc(1);
        }
        if auditor.size() < self.checkpoint.size() {
            return Ok(None);
        }
        let root = auditor
            .root()
            .map_err(|flaw| failed(auditor.size().0, &flaw))?;
        if root == self.checkpoint.root() {
            return Ok(Some(self.seen));
        }
        let what = format!(
            "the {} entries that the node shows have the root {root}, and the cosigned checkpoint says {}: these are not the ledger's entries; ask another node",
            auditor.size(),
            self.checkpoint.root()
        );
        Err(Failure::new(Exit::Inclusion, what))
    }
}

fn add(count: &mut Count, entry: &v1::Entry, believed: bool) {
    let signed = entry.signed.as_ref();
    let signatures = signed.map_or(0, |signed| signed.signatures.len());
    count.signatures += u64::try_from(signatures).unwrap_or(u64::MAX);
    match &entry.body {
        Some(Body::Decision(_)) => {
            count.decisions += 1;
            count.believed += u64::from(believed);
        }
        Some(Body::Outcome(outcome)) => {
            count.outcomes += 1;
            count.drifted += u64::from(!outcome.drift.is_empty());
        }
        Some(Body::SessionOpening(opening)) => {
            count.sessions += u64::from(opening.result() == v1::Result::Applied);
        }
        Some(
            Body::SessionEnd(_) | Body::Redemption(_) | Body::Governance(_) | Body::Genesis(_),
        )
        | None => {}
    }
}

/// The first thing that is wrong, and where.
fn failed(at: u64, flaw: &Flaw) -> Failure {
    let exit = match flaw {
        Flaw::Decision { .. } => Exit::Replay,
        Flaw::Refused(
            Refusal::SignatureForm
            | Refusal::UnknownKey
            | Refusal::KeyNotActive
            | Refusal::BadSignature
            | Refusal::NotByAuthor
            | Refusal::SignersMismatch,
        ) => Exit::Signature,
        Flaw::Undecodable(_)
        | Flaw::OutOfOrder(_)
        | Flaw::Genesis(_)
        | Flaw::Refused(Refusal::Undecodable | Refusal::RequestIdReused | Refusal::Stale)
        | Flaw::Repeated(_)
        | Flaw::Different(_)
        | Flaw::State(_) => Exit::Evidence,
    };
    let what = printable(&flaw.to_string());
    Failure::new(
        exit,
        format!("entry {at} is not sound: {what}; the {at} entries before it are"),
    )
}
