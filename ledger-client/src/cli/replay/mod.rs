//! `ledger-client replay`: recorded actions of real agents, asked for one by one as if they happened now.
//!
//! Each agent of the file becomes an agent of the ledger with a key of its own, each of its sessions a session, each line one
//! decision, and one outcome if it was allowed.

mod prepare;
mod report;
mod run;
pub(super) mod trace;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::run::{Row, Work};
use self::trace::{Openings, Trace};
use super::connection::{Connection, Speaker, block_on_or};
use super::{Exit, Failure};
use crate::answer::Level;
use crate::client::Client;
use crate::files;

/// How long receipts may take to be vouched for by a quorum after the last answer.
const UPGRADE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The actions: one JSON object on each line with `suite`, `agent`, `session`, `tool`, `args`, and if known `label`,
    /// `call_id`, `result_sha256` and `error`.
    file: PathBuf,
    /// A bundle for all suites, or a folder of bundles that are named by the suites. Each suite becomes a namespace, and its
    /// bundle is activated there: replay into a ledger that is for that.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// What sessions are opened with: one JSON object on each line with `suite`, `session`, and if known `agent`, `purpose`,
    /// `subject`, `grants` and `scope`.
    #[arg(long, value_name = "FILE")]
    sessions: Option<PathBuf>,
    /// Write a line for each action here: `line`, `index`, `verdict`, `reason`, `rules`, `level`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many sessions run at a time.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    parallel: u16,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn replay(replay: &Replay, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let trace = Trace::read(&replay.file)?;
    let openings = match &replay.sessions {
        Some(path) => Openings::read(path)?,
        None => Openings::default(),
    };
    let bundles = prepare::bundles(&replay.bundle, &trace)?;
    if let Some(path) = &replay.out {
        // A bad path is found now, and not after an hour of work.
        can_write(path)?;
    }
    let bar = progress(trace.actions.len());
    let asked = async {
        let client = replay.connection.open(Speaker::Operator).await?;
        let keys = replay.connection.state_dir(client.origin())?.join("replay");
        prepare::namespaces(&client, &bundles).await?;
        let agents = prepare::agents(&client, &trace, &keys).await?;
        let work = Arc::new(Work {
            operator: client.clone(),
            agents,
            trace,
            openings,
            bar: bar.clone(),
        });
        let mut rows = run::all(&work, usize::from(replay.parallel)).await?;
        report::must_be_complete(&work.trace, &rows)?;
        vouched(&client, &mut rows).await?;
        bar.finish_and_clear();
        Ok((work, rows))
    };
    let (work, rows) = block_on_or(asked, || interrupted(&bar))?;
    if let Some(path) = &replay.out {
        files::replace(path, &report::lines(&rows)?)?;
    }
    report::print(&work.trace, &rows, work.agents.len(), json, out)?;
    Ok(Exit::Done)
}

/// Finds out whether a file can be written here, and leaves nothing behind.
fn can_write(path: &Path) -> Result<(), Failure> {
    let mut beside = path.to_owned();
    beside.as_mut_os_string().push(".probe");
    files::replace(&beside, b"")?;
    Ok(std::fs::remove_file(&beside)?)
}

/// Shown on a terminal only.
fn progress(actions: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(actions).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} actions, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Waits until a quorum has vouched for every receipt.
async fn vouched(client: &Client, rows: &mut [Row]) -> Result<(), Failure> {
    let provisional = rows.iter().filter(|row| row.level == Level::Committed);
    let Some(size) = provisional.map(|row| row.tree_size).max() else {
        return Ok(());
    };
    let mut upgrades = client.upgrades();
    let done = upgrades.wait_for(|state| state.cosigned_size >= size && state.waiting == 0);
    let vouched = tokio::time::timeout(UPGRADE, done).await.is_ok();
    let alarm = client.upgrades().borrow().alarm.clone();
    if !vouched || alarm.is_some() {
        let why = alarm.unwrap_or_else(|| "the cluster has not cosigned them in time".to_owned());
        return Err(Failure::new(
            Exit::Denied,
            format!("the entries are there, and a quorum does not vouch for all of them: {why}"),
        ));
    }
    for row in rows {
        row.level = Level::Cosigned;
    }
    Ok(())
}

fn interrupted(bar: &ProgressBar) -> String {
    format!(
        "interrupted after {} actions; their entries stay, and a file for --out was not written",
        bar.position()
    )
}
