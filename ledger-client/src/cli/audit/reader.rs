//! Reading a whole ledger: its entries are streamed to a thread that makes each of them again.

use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use ledger_core::audit::{Auditor, Flaw, Sound};
use ledger_core::limits::MIN_STACK_LEN;
use ledger_core::machine::Refusal;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::super::show::printable;
use super::super::{Exit, Failure};
use super::times::TimeAudit;
use crate::answer_parts::next_part;
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

/// An entry on its way to the thread that reads it.
struct Given {
    entry: Vec<u8>,
    compartments: Vec<v1::Compartment>,
}

/// Shown on a terminal only.
pub(in crate::cli) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {per_sec}, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A ledger that was read and is sound.
#[derive(Debug)]
pub(in crate::cli) struct Read<S> {
    /// The checkpoint up to which it was read.
    pub(in crate::cli) checkpoint: Checkpoint,
    /// How the times of its entries compare with those of cosigners.
    pub(in crate::cli) times: TimeAudit,
    /// What was gathered.
    pub(in crate::cli) seen: S,
}

/// Reads every entry up to a checkpoint that a quorum vouches for, makes it again, and adds it to what was seen before. With
/// content, what is kept beside entries is fetched too. Nothing comes back unless all of it is sound.
pub(in crate::cli) async fn every_entry<S: Send + 'static>(
    client: &Client,
    with_content: bool,
    bar: &ProgressBar,
    mut times: TimeAudit,
    seen: S,
    add: impl Fn(&mut S, &v1::Entry, Vec<v1::Compartment>, Sound) + Send + 'static,
) -> Result<Read<S>, Failure> {
    let (note, checkpoint) = newest(client, &times).await?;
    bar.set_length(checkpoint.size().0);
    times.add_last(&checkpoint, &note);
    let reader = Reader {
        checkpoint: checkpoint.clone(),
        bar: bar.clone(),
        times,
        seen,
        add,
    };
    let (seen, times) = read(client, with_content, reader).await?;
    bar.finish_and_clear();
    Ok(Read {
        checkpoint,
        times,
        seen,
    })
}

/// The newest checkpoint, of a tree at least as large as the auditor knows one.
async fn newest(client: &Client, times: &TimeAudit) -> Result<(String, Checkpoint), Failure> {
    let (note, checkpoint) = client.checkpoint(0).await?;
    client.observe(&note, &checkpoint).await?;
    let Some((held, file)) = times.largest_held() else {
        return Ok((note, checkpoint));
    };
    if held <= checkpoint.size() {
        return Ok((note, checkpoint));
    }
    let size = checkpoint.size();
    let Ok((note, later)) = client.later_checkpoint(held).await else {
        let what = format!(
            "the cluster vouches for {size} entries, and {file} for {held} of them with a quorum's signatures: the ledger was put back from an old copy, or the nodes that answer lag far behind; find out which before you go on"
        );
        return Err(Failure::new(Exit::Inconsistent, what));
    };
    client.observe(&note, &later).await?;
    Ok((note, later))
}

/// Fetches entries up to a checkpoint and has them read on a thread of their own.
async fn read<S: Send + 'static, A>(
    client: &Client,
    with_content: bool,
    reader: Reader<S, A>,
) -> Result<(S, TimeAudit), Failure>
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
    let (mut deadline, mut begin) = (client.deadline(), *next);
    while *next < size {
        // Parts without an entry do not put it off.
        if *next > begin {
            (deadline, begin) = (client.deadline(), *next);
        }
        let part = next_part(&mut parts, deadline, "the stream of entries").await?;
        let part = part.ok_or_else(|| {
            Error::Unavailable("the stream of entries broke off: it ended".to_owned())
        })?;
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
    times: TimeAudit,
    seen: S,
    add: A,
}

impl<S, A: Fn(&mut S, &v1::Entry, Vec<v1::Compartment>, Sound)> Reader<S, A> {
    /// Reads what is given until the end, and compares the root with that of the checkpoint; none if not everything was given.
    fn read_all(
        mut self,
        mut given: mpsc::Receiver<Given>,
    ) -> Result<Option<(S, TimeAudit)>, Failure> {
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
                let compared = self.times.compare(&mut auditor, entry.time_us);
                compared.map_err(|flaw| failed(at, &flaw))?;
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
            return Ok(Some((self.seen, self.times)));
        }
        let what = format!(
            "the {} entries that the node shows have the root {root}, and the cosigned checkpoint says {}: these are not the ledger's entries; ask another node",
            auditor.size(),
            self.checkpoint.root()
        );
        Err(Failure::new(Exit::Inclusion, what))
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
        Flaw::Forked(_) => Exit::Inconsistent,
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
