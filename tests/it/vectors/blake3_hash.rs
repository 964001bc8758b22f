//! The official BLAKE3 cases, for the plain hash and its extended output: the modes that the ledger uses. It separates its
//! domains by prefixes, so that the keyed and key-derivation modes do not occur.

use ledger_core::hash::TreeHash;
use serde::Deserialize;

use super::read_json;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input_len: usize,
    hash: String,
}

#[test]
fn official_hashes_are_ours() {
    let Some(vectors) = read_json::<Vectors>("blake3/test_vectors.json") else {
        return;
    };
    for case in &vectors.cases {
        let input: Vec<u8> = (0..=250).cycle().take(case.input_len).collect();
        let expected = hex::decode(&case.hash).unwrap();
        let mut output = vec![0; expected.len()];
        blake3::Hasher::new()
            .update(&input)
            .finalize_xof()
            .fill(&mut output);
        assert_eq!(output, expected, "{} bytes", case.input_len);
        assert_eq!(
            blake3::hash(&input).as_bytes()[..],
            expected[..32],
            "{} bytes",
            case.input_len
        );
        // The inputs count up from zero, so that each but the empty one reads as a leaf's prefix and bytes.
        if let Some((0, leaf)) = input.split_first() {
            assert_eq!(TreeHash::Blake3.leaf(leaf).as_bytes()[..], expected[..32]);
        }
    }
    assert_eq!(vectors.cases.len(), 35);
}
