//! One message, one encoding.
//!
//! Protobuf lets many byte strings decode to the same message. What is signed and hashed here has exactly one: the bytes
//! that encoding gives. So bytes are accepted only if decoding and encoding them again changes nothing, which rules out
//! unknown and duplicate fields, overlong numbers, explicit defaults and any other order.

use prost::Message;
use thiserror::Error;

/// Why bytes are not the canonical encoding of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CanonicalError {
    /// They are longer than the limit for this message.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLong {
        /// The length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// They do not decode.
    #[error("the bytes do not decode as protobuf; they are truncated, or of another kind")]
    Undecodable,
    /// They decode, but are not what encoding gives.
    #[error("the bytes are not in canonical form; encode the message again")]
    NotCanonical,
}

/// Decodes the canonical bytes of a message.
///
/// # Errors
/// [`CanonicalError`], without having allocated more than a small multiple of `limit`.
pub fn decode<M: Message + Default>(bytes: &[u8], limit: usize) -> Result<M, CanonicalError> {
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong {
            len: bytes.len(),
            limit,
        });
    }
    let message = M::decode(bytes).map_err(|_| CanonicalError::Undecodable)?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(CanonicalError::NotCanonical);
    }
    Ok(message)
}
