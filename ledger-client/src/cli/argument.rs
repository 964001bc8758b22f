//! Arguments that may be long: given as they are, read from a file, or from standard input.

use std::io::Read as _;
use std::path::Path;

use super::{Exit, Failure};
use crate::files;

/// The text of an argument that may name a file.
pub(super) fn text(argument: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if argument == "-" {
        let mut bytes = Vec::new();
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        std::io::stdin()
            .lock()
            .take(bound)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::new(Exit::Usage, format!("standard input: {error}")))?;
        if bytes.len() > limit {
            let what = format!("standard input is longer than {limit} bytes");
            return Err(Failure::new(Exit::Usage, what));
        }
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => Ok(files::read(Path::new(path), limit)?),
        None => Ok(argument.as_bytes().to_vec()),
    }
}
