//! Trust steps that are pushed to a node which knows no member any more.
//!
//! A node that was away while all nodes that it knew left refuses every member of now, and has nobody left to ask. A member that it
//! refuses ([`sender`]) pushes the changes of the trust policy to it, on a protocol of its own beside the calls of nodes; and the node
//! ([`receiver`]) believes them because the nodes before each change have cosigned it, whoever brings them.
//!
//! A connection goes like this. The receiver says its ledger and the last epoch that it knows (`TrustStepsWanted`). The sender says
//! the steps that follow, each in a frame, and an empty frame. The receiver says what it knows by then, and the connection ends. A
//! frame is a length of four bytes, big-endian, and so many bytes.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(super) use receiver::{PushReceiver, Pushed};
pub(super) use sender::PushSender;

/// Most steps on one connection. A node that lacks more of them gets them on the next.
const MAX_STEPS: usize = crate::limits::MAX_PUSHED_STEPS;
/// Longest step in bytes.
const MAX_STEP_LEN: usize = crate::limits::MAX_PUSHED_STEP_LEN;
/// Longest `TrustStepsWanted` in bytes.
const MAX_WANTED_LEN: usize = 64;
/// How long a connection may take after its handshake.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Reads one frame. Memory is taken as bytes come, and not as the length says.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), longest: usize) -> Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > longest {
        let what = format!("a frame of {length} bytes, and {longest} are the most");
        return Err(Error::new(ErrorKind::InvalidData, what));
    }
    let mut frame = Vec::new();
    let announced = u64::try_from(length).unwrap_or(u64::MAX);
    stream.take(announced).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

/// Reads the steps up to the empty frame, and does not look into them.
async fn read_steps(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<Vec<u8>>> {
    let mut steps = Vec::new();
    loop {
        let frame = read_frame(stream, MAX_STEP_LEN).await?;
        if frame.is_empty() {
            return Ok(steps);
        }
        if steps.len() == MAX_STEPS {
            let what = format!("more than {MAX_STEPS} steps on one connection");
            return Err(Error::new(ErrorKind::InvalidData, what));
        }
        steps.push(frame);
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len()).map_err(Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(frame).await
}

async fn read_message<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> Result<M> {
    let frame = read_frame(stream, longest).await?;
    M::decode(frame.as_slice()).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> Result<()> {
    write_frame(stream, &message.encode_to_vec()).await?;
    stream.flush().await
}
