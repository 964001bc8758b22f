//! One set of files, one encoding; every other byte string is refused.

use proptest::prelude::*;

use super::*;
use crate::bundle::tests::{HEADER_TEXT, changed, files, sample};
use crate::schema::TEMPLATE;

/// Bundles are named by these digests for ever; this test must not change without a new format.
#[test]
fn the_packed_form_and_its_digest_are_pinned() {
    let bundle = Bundle::from_files(files(&[
        ("bundle.toml", HEADER_TEXT),
        ("schema.cedarschema", TEMPLATE),
    ]))
    .unwrap();
    let packed = bundle.pack();
    let mut expected = vec![0, 0, 0, 2];
    for (path, text) in [
        ("bundle.toml", HEADER_TEXT),
        ("schema.cedarschema", TEMPLATE),
    ] {
        for part in [path, text] {
            expected.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            expected.extend(part.as_bytes());
        }
    }
    assert_eq!(packed, expected);
    let mut named = b"countersign-bundle-v1\0".to_vec();
    named.extend(&packed);
    assert_eq!(bundle.digest().0, *blake3::hash(&named).as_bytes());
    let pinned = "9a49acdef80b052132f8143ded33a37bc4dec2aef22e0cfbaf73dc637041c0d7";
    assert_eq!(bundle.digest().to_string(), pinned);
}

#[test]
fn chunks_make_the_bundle_again() {
    let mut files = changed("rules/big.cedar", &"// x\n".repeat(CHUNK_BYTES));
    files.insert("rules/b.cedar".to_owned(), b"// b".to_vec());
    let bundle = Bundle::from_files(files).unwrap();
    let chunks = bundle.chunks();
    assert_eq!(chunks.len(), bundle.pack().len().div_ceil(CHUNK_BYTES));
    assert!(
        chunks
            .iter()
            .all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES)
    );
    let again = Bundle::from_chunks(chunks.iter().map(Vec::as_slice)).unwrap();
    assert_eq!((again.digest(), &again), (bundle.digest(), &bundle));
    assert!(Bundle::from_chunks(chunks.iter().skip(1).map(Vec::as_slice)).is_err());
    let endless = std::iter::repeat(chunks[0].as_slice());
    assert!(Bundle::from_chunks(endless).is_err());
}

#[test]
fn hostile_packed_bytes_are_refused() {
    let packed = Bundle::from_files(sample()).unwrap().pack();
    let file = |path: &str, text: &str| {
        let mut bytes = Vec::new();
        for part in [path, text] {
            bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    };
    let pack =
        |count: u32, files: &[Vec<u8>]| [count.to_be_bytes().to_vec(), files.concat()].concat();
    for (bytes, part) in [
        (Vec::new(), "cut short"),
        (vec![0xff; 4], "too many files"),
        (pack(1, &[]), "cut short"),
        (pack(1, &[vec![0xff, 0xff, 0xff, 0xff, 0]]), "cut short"),
        (pack(2, &[file("b", ""), file("a", "")]), "out of order"),
        (pack(2, &[file("a", ""), file("a", "")]), "out of order"),
        (pack(1, &[file("../a", "")]), "invalid path"),
        (pack(1, &[file("/a", "")]), "invalid path"),
        (pack(1, &[file("", "")]), "invalid path"),
        (pack(1, &[file("bundle.toml", ""), vec![0]]), "follow"),
        ([packed.clone(), vec![0]].concat(), "follow"),
        (packed[..packed.len() - 1].to_vec(), "cut short"),
    ] {
        let findings = Bundle::from_packed(&bytes).unwrap_err();
        assert!(
            findings[0].message.contains(part),
            "{bytes:?}: {findings:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packing_is_canonical(
        rules in proptest::collection::btree_map("rules/[a-z]{1,3}(/[a-z]{1,2})?\\.cedar", ".{0,20}", 0..5),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut files = sample();
        files.extend(rules.into_iter().map(|(path, text)| (path, text.into_bytes())));
        let bundle = Bundle::from_files(files).unwrap();
        let mut packed = bundle.pack();
        let again = Bundle::from_packed(&packed).unwrap();
        prop_assert_eq!(&again, &bundle);
        prop_assert_eq!(again.digest(), BundleDigest::of(&packed));

        let at = at.index(packed.len());
        packed[at] = byte;
        if let Ok(other) = Bundle::from_packed(&packed) {
            prop_assert_eq!(other.pack(), packed);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0_u8..4, 0..100)) {
        let _ = Bundle::from_packed(&bytes);
    }
}
