//! What `authorize --request-id` sends again: only the same bytes name the same entry, so those whose fate is not known are kept.

use std::path::PathBuf;

use ledger_proto::v1;
use prost::Message as _;

use super::connection::Connection;
use super::{Exit, Failure};
use crate::client::Client;
use crate::files;
use crate::signing::{Ask, Signed};

/// Longest file in bytes: a command with the largest input and resource that are sent.
const MAX_LEN: usize = 4 * 1024 * 1024;

fn path(connection: &Connection, client: &Client, id: [u8; 16]) -> Result<PathBuf, Failure> {
    let dir = connection.state_dir(client.origin())?.join("requests");
    std::fs::create_dir_all(&dir).map_err(|error| {
        let what = format!("{} cannot be made: {error}", dir.display());
        Failure::new(Exit::Internal, what)
    })?;
    Ok(dir.join(hex::encode(id)))
}

/// Keeps a request that has to be sent again.
pub(super) fn keep(
    connection: &Connection,
    client: &Client,
    signed: &Signed,
) -> Result<(), Failure> {
    let path = path(connection, client, signed.request_id)?;
    if path.exists() {
        return Ok(());
    }
    // Arguments may be confidential.
    Ok(files::write_new(
        &path,
        &signed.submission.encode_to_vec(),
        0o600,
    )?)
}

/// The request that was kept under an id, if it asks this.
pub(super) fn find(
    connection: &Connection,
    client: &Client,
    id: [u8; 16],
    ask: &Ask,
) -> Result<Option<Signed>, Failure> {
    let path = path(connection, client, id)?;
    if !path.exists() {
        return Ok(None);
    }
    let bad = |exit, what: &str| {
        let id = hex::encode(id);
        Failure::new(exit, format!("{}: request {id} {what}", path.display()))
    };
    let bytes = files::read(&path, MAX_LEN)?;
    let signed = v1::Submission::decode(bytes.as_slice()).map(|submission| Signed {
        request_id: id,
        submission,
    });
    let signed = signed.map_err(|_| bad(Exit::Configuration, "is damaged; remove the file"))?;
    if !asks(&signed, ask) {
        return Err(bad(
            Exit::Usage,
            "asked something else; ask that again, or take another id",
        ));
    }
    Ok(Some(signed))
}

/// Forgets a request that was answered.
pub(super) fn forget(
    connection: &Connection,
    client: &Client,
    signed: &Signed,
) -> Result<(), Failure> {
    // A file that stays is sent again at most, and gets the same answer.
    let _ = std::fs::remove_file(path(connection, client, signed.request_id)?);
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
