//! Signed requests of `authorize`, kept on disk before they are sent.
//!
//! Only the same bytes name the same entry, so that a repeat has to find them, whatever happened to the process that made them.
//! With them is the moment of the first sending, from which a yes is counted.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ledger_proto::v1;
use prost::Message as _;

use super::connection::Connection;
use super::{Exit, Failure};
use crate::client::Client;
use crate::files;
use crate::signing::{Ask, Signed};

/// Longest file in bytes: a command with the largest input and resource that are sent.
const MAX_LEN: usize = 4 * 1024 * 1024;
/// How long a request is kept. The ledger answers a repeat for ever, but nobody waits that long for it.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Files that one call looks at to find those that are older.
const LOOKED_AT: usize = 256;

fn folder(connection: &Connection, client: &Client) -> Result<PathBuf, Failure> {
    let dir = connection.state_dir(client.origin())?.join("requests");
    std::fs::create_dir_all(&dir).map_err(|error| {
        let what = format!("{} cannot be made: {error}", dir.display());
        Failure::new(Exit::Internal, what)
    })?;
    Ok(dir)
}

/// Keeps a request that is about to be sent for the first time.
pub(super) fn keep(
    connection: &Connection,
    client: &Client,
    signed: &Signed,
) -> Result<(), Failure> {
    let dir = folder(connection, client)?;
    remove_old(&dir);
    let path = dir.join(signed.request_id_hex());
    // Arguments may be confidential.
    files::write_new(&path, &signed.to_kept_bytes(), 0o600).map_err(|error| {
        let what = format!("the request was not sent, because it cannot be kept: {error}");
        Failure::new(Exit::Internal, what)
    })
}

/// Removes some of the requests whose time is over. One that stays for longer does no harm.
fn remove_old(dir: &Path) {
    let Ok(files) = std::fs::read_dir(dir) else {
        return;
    };
    let now = SystemTime::now();
    for file in files.take(LOOKED_AT).flatten() {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|at| now.duration_since(at).ok());
        if age.is_some_and(|age| age > KEPT_FOR) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// The request that was kept under an id, if it asks this.
pub(super) fn find(
    connection: &Connection,
    client: &Client,
    id: [u8; 16],
    ask: &Ask,
) -> Result<Option<Signed>, Failure> {
    let path = folder(connection, client)?.join(hex::encode(id));
    if !path.exists() {
        return Ok(None);
    }
    let bad = |exit, what: &str| {
        let id = hex::encode(id);
        Failure::new(exit, format!("{}: request {id} {what}", path.display()))
    };
    let signed = Signed::from_kept_bytes(&files::read(&path, MAX_LEN)?);
    let signed = signed.ok().filter(|signed| signed.request_id == id);
    let signed = signed.ok_or_else(|| bad(Exit::Configuration, "is damaged; remove the file"))?;
    if !asks(&signed, ask) {
        return Err(bad(
            Exit::Usage,
            "asked something else; ask that again, or take another id",
        ));
    }
    Ok(Some(signed))
}

/// Forgets a request that will not be repeated.
pub(super) fn forget(
    connection: &Connection,
    client: &Client,
    signed: &Signed,
) -> Result<(), Failure> {
    // A file that stays is sent again at most, and gets the same answer.
    let _ = std::fs::remove_file(folder(connection, client)?.join(signed.request_id_hex()));
    Ok(())
}

/// True if a signed request asks this.
fn asks(signed: &Signed, ask: &Ask) -> bool {
    let command = v1::Command::decode(signed.command()).unwrap_or_default();
    let compartments = signed.submission.compartments.iter();
    let mut sent: Vec<_> = compartments
        .map(|sent| (i32::from(sent.kind()), sent.content.as_slice()))
        .collect();
    let contents = ask.contents.iter();
    let mut wanted: Vec<_> = contents
        .map(|content| (i32::from(content.kind), content.bytes.as_slice()))
        .collect();
    sent.sort_unstable();
    wanted.sort_unstable();
    command.body.as_ref() == Some(&ask.body) && sent == wanted
}
