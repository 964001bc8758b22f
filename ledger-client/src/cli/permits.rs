//! What is kept on disk between `authorize` and `record`: without the salt nobody can say whether the input was changed.

use std::path::{Path, PathBuf};

use ledger_proto::v1::Verdict;
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::{Exit, Failure};
use crate::client::Client;
use crate::decision::Decision;
use crate::files;
use crate::sending::{FirstSending, KeptSending};

/// One permit, as the file holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    request_id: String,
    input_salt: String,
    /// When it was asked for.
    sent: KeptSending,
    /// The entry that redeemed it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redemption: Option<u64>,
}

/// Where the permit of a decision is kept.
pub(super) fn path(
    connection: &Connection,
    client: &Client,
    index: u64,
) -> Result<PathBuf, Failure> {
    let dir = connection.state_dir(client.origin())?.join("permits");
    std::fs::create_dir_all(&dir).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("{} cannot be made: {error}", dir.display()),
        )
    })?;
    Ok(dir.join(format!("{index}.json")))
}

/// Keeps what an outcome will need, for decisions that can have one.
pub(super) fn keep(
    connection: &Connection,
    client: &Client,
    decision: &Decision,
) -> Result<(), Failure> {
    let Some(salt) = decision
        .input_salt
        .filter(|_| decision.verdict() == Verdict::Allow)
    else {
        return Ok(());
    };
    let kept = Kept {
        request_id: hex::encode(decision.request_id.to_vec()),
        input_salt: hex::encode(salt),
        sent: decision.sending().to_kept(),
        // Whoever asks again does not undo what was redeemed here.
        redemption: redemption(&path(connection, client, decision.proven.index)?)?,
    };
    let text = serde_json::to_vec(&kept).map_err(std::io::Error::from)?;
    let index = decision.proven.index;
    files::replace(&path(connection, client, index)?, &text).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("entry {index} allows the action, but do not act on it, for what recording it takes cannot be kept: {error}; make room and ask again"),
        )
    })
}

/// Keeps which entry redeemed a permit, for the outcome to name it.
pub(super) fn keep_redemption(path: &Path, decision: u64, redemption: u64) -> Result<(), Failure> {
    let mut kept = read(path)?.ok_or_else(|| {
        let what = format!("{} is gone", path.display());
        Failure::new(Exit::Internal, what)
    })?;
    kept.redemption = Some(redemption);
    let text = serde_json::to_vec(&kept).map_err(std::io::Error::from)?;
    files::replace(path, &text).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("entry {redemption} redeems the permit of entry {decision}, but do not act on it, for what recording it takes cannot be kept: {error}; make room and ask again"),
        )
    })
}

/// The salt that is kept in a file, if there is one.
pub(super) fn salt(path: &Path) -> Result<Option<[u8; 32]>, Failure> {
    let kept = read(path)?;
    let salt = kept.and_then(|kept| hex::decode(kept.input_salt).ok());
    Ok(salt.and_then(|salt| salt.try_into().ok()))
}

/// When the permit in a file was asked for.
pub(super) fn sending(path: &Path) -> Result<Option<FirstSending>, Failure> {
    Ok(read(path)?.map(|kept| FirstSending::from_kept(kept.sent)))
}

/// The entry that redeemed the permit in a file, if one did.
pub(super) fn redemption(path: &Path) -> Result<Option<u64>, Failure> {
    Ok(read(path)?.and_then(|kept| kept.redemption))
}

fn read(path: &Path) -> Result<Option<Kept>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let kept = serde_json::from_slice(&files::read(path, 4_096)?).map_err(|error| {
        Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
    })?;
    Ok(Some(kept))
}
