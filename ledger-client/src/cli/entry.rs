//! `ledger-client entry`: what is in the ledger, each entry proven before it is shown.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use ledger_proto::v1::{self, command::Body as Ask};
use prost::Message as _;
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on, told};
use super::entry_json::as_json;
use super::governing::shown_exit;
use super::listing::{ListProgress, PAGE};
use super::session::parse_session;
use super::show::{print_table, printable};
use super::{Exit, Failure, print_json};
use crate::answer::Proven;
use crate::client::Client;
use crate::error::Error;
use crate::paths;
use crate::transport::Answer;
use crate::upgrade::vouch;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show one entry.
    Show {
        /// Its index.
        index: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// List entries that match, the oldest first.
    List(Box<List>),
}

/// Which entries.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// About this agent.
    #[arg(long, default_value = "", hide_default_value = true)]
    agent: String,
    /// Of this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// About this action.
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// Decisions that this rule determined.
    #[arg(long, default_value = "", hide_default_value = true)]
    rule: String,
    /// Decisions with this verdict.
    #[arg(long, value_enum)]
    verdict: Option<Verdict>,
    /// From this time on, such as `2026-11-24T00:00:00Z`.
    #[arg(long, value_name = "TIME")]
    from: Option<jiff::Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<jiff::Timestamp>,
    /// Only outcomes with drift.
    #[arg(long)]
    drifted: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Only actions that were allowed and of which nobody has recorded an outcome.
    #[arg(long, conflicts_with_all = ["drifted", "verdict", "descending"])]
    unrecorded: bool,
    /// The newest first.
    #[arg(long)]
    descending: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    limit: u32,
    /// Where the page before ended.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_name = "TOKEN"
    )]
    page_token: String,
    #[command(flatten)]
    connection: Connection,
}

/// A verdict.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verdict {
    /// It may run.
    Allow,
    /// It may not.
    Deny,
    /// An approval is required.
    Escalate,
}

impl Verdict {
    const fn message(self) -> v1::Verdict {
        match self {
            Self::Allow => v1::Verdict::Allow,
            Self::Deny => v1::Verdict::Deny,
            Self::Escalate => v1::Verdict::Escalate,
        }
    }
}

impl Filter {
    pub(super) fn message(&self) -> Result<v1::EntryFilter, Failure> {
        let session_id = match &self.session {
            Some(session) => parse_session(session)?.to_vec(),
            None => Vec::new(),
        };
        let micros = |time: &Option<jiff::Timestamp>| {
            time.map_or(0, |time| u64::try_from(time.as_microsecond()).unwrap_or(0))
        };
        Ok(v1::EntryFilter {
            agent: self.agent.clone(),
            session_id,
            action: self.action.clone(),
            rule: self.rule.clone(),
            verdict: self.verdict.map_or(0, |verdict| verdict.message().into()),
            from_time_us: micros(&self.from),
            // 0 would be no bound.
            until_time_us: self.to.map_or(0, |_| micros(&self.to).max(1)),
            drifted: self.drifted,
            ..v1::EntryFilter::default()
        })
    }
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Show { index, connection } => block_on(async {
            let client = connection.open(Speaker::Any).await?;
            let (proven, _) = get(&client, *index, false).await?;
            let value = as_json(&proven.entry);
            if json {
                print_json(out, &value)?;
            } else {
                print_table(out, &[value])?;
            }
            Ok(shown_exit(&client, &proven))
        }),
        Command::List(list) => block_on(list_entries(list, json, out)),
    }
}

/// An entry, proven to be the one that was asked for, and the answer that it came in. Where no quorum can be asked, one node
/// will do; but not for content, which may have been erased elsewhere.
pub(super) async fn get(
    client: &Client,
    index: u64,
    with_compartments: bool,
) -> Result<(Proven, Answer<v1::GetEntryResponse>), Error> {
    let read = async |consistency, deadline| {
        let message = v1::GetEntryRequest {
            key: Some(v1::get_entry_request::Key::Index(index)),
            with_compartments,
            consistency,
            ..v1::GetEntryRequest::default()
        };
        client.read_from(paths::GET_ENTRY, message, deadline).await
    };
    let mut given: Answer<v1::GetEntryResponse> = if with_compartments {
        read(None, client.deadline()).await?
    } else {
        told(client.read_settled(read).await?)
    };
    let receipt = given.answer.receipt.take();
    let proven = client.prove(receipt).await;
    let mut proven = proven.map_err(|error| error.of(&given.by))?;
    if proven.level < client.wanted_level() {
        match vouch(client, &proven.checkpoint, client.deadline()).await {
            Ok(()) => proven.level = client.wanted_level(),
            Err(error @ Error::Inconsistent(_)) => return Err(error),
            // Whoever shows the entry says that it is provisional.
            Err(_) => {}
        }
    }
    if proven.index != index {
        let what = format!("entry {} was given for {index}", proven.index);
        return Err(Error::contradiction(what).of(&given.by));
    }
    Ok((proven, given))
}

async fn list_entries(list: &List, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = list.connection.open(Speaker::Any).await?;
    if list.unrecorded {
        return unrecorded(list, &client, json, out).await;
    }
    let message = v1::ListEntriesRequest {
        filter: Some(list.filter.message()?),
        descending: list.descending,
        page_size: list.limit,
        page_token: list.page_token.clone(),
        receipt_level: client.level(),
    };
    let deadline = client.deadline();
    let (entries, next_page_token) = page(&client, message, deadline).await?;
    let entries: Vec<Value> = entries.iter().map(as_json).collect();
    show_page(entries, &next_page_token, json, out)
}

fn show_page(
    entries: Vec<Value>,
    next_page_token: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if json {
        let page = json!({ "entries": entries, "next_page_token": next_page_token });
        print_json(out, &page)?;
        return Ok(Exit::Done);
    }
    print_table(out, &entries)?;
    if !next_page_token.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "ledger-client: there may be more; go on with --page-token {}",
            printable(next_page_token)
        );
    }
    Ok(Exit::Done)
}

/// Lists what was allowed and has no outcome: outcomes come later than decisions, so that all pages are needed.
async fn unrecorded(
    list: &List,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut filter = list.filter.message()?;
    filter.verdict = v1::Verdict::Allow.into();
    let mut allowed = BTreeMap::new();
    for entry in all(client, filter.clone()).await? {
        allowed.insert(entry.index, entry);
    }
    let outcomes = v1::EntryFilter {
        kind: v1::EntryKind::Outcome.into(),
        verdict: v1::Verdict::Unspecified.into(),
        rule: String::new(),
        until_time_us: 0,
        ..filter
    };
    for outcome in all(client, outcomes).await? {
        let command = ledger_core::entry::command(&outcome).ok().flatten();
        if let Some(Ask::Record(record)) = command.and_then(|command| command.body) {
            allowed.remove(&record.decision_index);
        }
    }
    let after = match list.page_token.as_str() {
        "" => None,
        token => Some(token.parse::<u64>().map_err(|_| {
            let what = format!("{token:?} is not where a page of --unrecorded ended");
            Failure::new(Exit::Usage, what)
        })?),
    };
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let mut rest = allowed
        .into_iter()
        .filter(|(index, _)| after.is_none_or(|after| *index > after))
        .peekable();
    let shown: Vec<v1::Entry> = rest.by_ref().take(limit).map(|(_, entry)| entry).collect();
    let last = shown.last().map(|entry| entry.index.to_string());
    let next_page_token = last.filter(|_| rest.peek().is_some()).unwrap_or_default();
    let entries = shown.iter().map(as_json).collect();
    show_page(entries, &next_page_token, json, out)
}

/// Every entry that matches.
async fn all(client: &Client, filter: v1::EntryFilter) -> Result<Vec<v1::Entry>, Failure> {
    let mut progress = ListProgress::begin(client);
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let message = v1::ListEntriesRequest {
            filter: Some(filter.clone()),
            page_size: PAGE,
            page_token,
            receipt_level: client.level(),
            ..v1::ListEntriesRequest::default()
        };
        let (page, next_page_token) = page(client, message, progress.deadline()).await?;
        for entry in &page {
            progress.add(entry.index, entry.encoded_len())?;
        }
        entries.extend(page);
        if next_page_token.is_empty() {
            return Ok(entries);
        }
        progress.must_have_time()?;
        page_token = next_page_token;
    }
}

/// The entries of one page, each of them proven, and where the next page begins.
async fn page(
    client: &Client,
    message: v1::ListEntriesRequest,
    deadline: Instant,
) -> Result<(Vec<v1::Entry>, String), Error> {
    let Answer { answer, by }: Answer<v1::ListEntriesResponse> = client
        .read_from(paths::LIST_ENTRIES, message, deadline)
        .await?;
    let entries = answer.entries.into_iter();
    let entries = entries.map(|entry| prove(client, entry, &answer.checkpoint));
    let entries: Result<Vec<_>, Error> = entries.collect();
    let entries = entries.map_err(|error| error.of(&by))?;
    Ok((entries, answer.next_page_token))
}

/// Checks one entry of a page against the page's checkpoint, which must be worth what the caller asked for.
pub(super) fn prove(
    client: &Client,
    entry: v1::ProvenEntry,
    checkpoint: &str,
) -> Result<v1::Entry, Error> {
    let receipt = v1::Receipt {
        entry: Some(entry),
        checkpoint: checkpoint.to_owned(),
        level: v1::ReceiptLevel::Committed.into(),
    };
    let policy = client.trust().policy();
    let proven = Proven::verify_at(&receipt, &policy, client.wanted_level())?;
    client.contradicts_seen(checkpoint, &proven.checkpoint)?;
    Ok(proven.entry)
}
