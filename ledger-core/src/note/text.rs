//! The two encodings that all note formats share, each with exactly one accepted form per value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Hash;

/// Standard base64 with padding (RFC 4648, section 4).
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The inverse of [`to_base64`]: other alphabets, missing padding and unused bits that are set are refused.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A base64 hash: 32 bytes, neither more nor less.
pub(super) fn hash_from_base64(text: &str) -> Option<Hash> {
    Hash::from_slice(&from_base64(text)?)
}

/// A decimal number without sign or leading zeros.
pub(super) fn from_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(from_decimal("0"), Some(0));
        assert_eq!(from_decimal("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1e3",
            "0x1",
            "18446744073709551616",
            "\u{661}",
        ] {
            assert_eq!(from_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_have_one_form() {
        assert_eq!(from_base64("AQ=="), Some(vec![1]));
        assert_eq!(to_base64(&[0xfb, 0xff]), "+/8=");
        for text in [
            "AQ", "AQ=", "AR==", "AQ==\n", " AQ==", "-_8=", "A", "AQ==AQ==",
        ] {
            assert_eq!(from_base64(text), None, "{text}");
        }
        assert_eq!(hash_from_base64(&to_base64(&[1; 31])), None);
        assert_eq!(hash_from_base64(&to_base64(&[1; 33])), None);
        assert_eq!(
            hash_from_base64(&to_base64(&[1; 32])),
            Some(Hash::from_bytes([1; 32]))
        );
    }
}
