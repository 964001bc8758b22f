//! One hash over everything the machine remembers.
//!
//! Replicas that applied the same log have the same state, byte for byte. The digest lets them say so in 32 bytes, and lets
//! a node that joined by snapshot check what it was given. Entries and tiles are left out, because the root covers them;
//! compartments are left out, because erasing them must change nothing.

use super::{Family, Key, State, StateError};
use crate::hash::Hash;

/// What precedes the pairs in the hash.
const STATE_DOMAIN: &[u8] = b"countersign-state-v1\0";
/// Pairs read at a time; bounds memory, not the result.
const PAGE: usize = 1_024;

/// `BLAKE3("countersign-state-v1\0" || for each pair, ascending: u32be(len key) || key || u32be(len value) || value)`,
/// over the families that [`Family::is_digested`] names. O(state) time, bounded memory.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn state_digest(state: &dyn State) -> Result<Hash, StateError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(STATE_DOMAIN);
    for family in Family::ALL
        .into_iter()
        .filter(|family| family.is_digested())
    {
        let prefix = Key::family(family);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = state.scan(prefix.as_bytes(), after.as_deref(), PAGE)?;
            for (key, value) in &page {
                for part in [key, value] {
                    let len = u32::try_from(part.len())
                        .map_err(|_| StateError::damaged(&prefix, "a pair of over 4 GiB"))?;
                    hasher.update(&len.to_be_bytes()).update(part);
                }
            }
            let Some((last, _)) = page.into_iter().last() else {
                break;
            };
            after = Some(last);
        }
    }
    Ok(Hash::from_bytes(*hasher.finalize().as_bytes()))
}
