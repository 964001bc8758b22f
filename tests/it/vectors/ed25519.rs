//! Wycheproof's Ed25519 cases under strict verification.

use ledger_core::keys::PublicKey;
use serde::Deserialize;

use super::read_json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    public_key: Key,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Key {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u32,
    msg: String,
    sig: String,
    result: String,
}

#[test]
fn strict_verification_agrees_with_every_case() {
    let Some(vectors) = read_json::<Vectors>("wycheproof/ed25519_test.json") else {
        return;
    };
    let (mut valid, mut invalid) = (0, 0);
    // Valid by the file, refused by us.
    let mut stricter = Vec::new();
    for group in &vectors.test_groups {
        let key = PublicKey::from_bytes(&hex::decode(&group.public_key.pk).unwrap()).unwrap();
        for case in &group.tests {
            let (message, signature) = (
                hex::decode(&case.msg).unwrap(),
                hex::decode(&case.sig).unwrap(),
            );
            let accepted = key.verify(&message, &signature);
            match case.result.as_str() {
                "valid" => {
                    valid += 1;
                    if !accepted {
                        stricter.push(case.tc_id);
                    }
                }
                "invalid" => {
                    invalid += 1;
                    assert!(!accepted, "case {}", case.tc_id);
                }
                other => panic!("case {}: unknown result {other}", case.tc_id),
            }
        }
    }
    // None: every key of the file is canonical and of large order, or parsing it above fails, and no valid signature has
    // an R of small order. Those are the points where strict verification refuses what others accept. The file calls no
    // case "acceptable".
    assert_eq!(stricter, [0_u32; 0]);
    assert_eq!((valid, invalid, vectors.number_of_tests), (88, 63, 151));
}
