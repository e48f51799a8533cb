//! Every case of Project Wycheproof for the algorithms that we verify. Our policy is stricter
//! than its verdict in one way: of secp256k1 signatures, only those with low S are accepted.

use onceguard::domain::{KeyType, PublicKey};
use onceguard::signatures::{Algorithm, VerifyingKey};
use wycheproof::TestResult;
use wycheproof::ecdsa::{self, TestFlag};
use wycheproof::eddsa;

fn ed25519_key(bytes: &[u8]) -> VerifyingKey {
    VerifyingKey::new(&PublicKey::new(KeyType::Ed25519, bytes).unwrap()).unwrap()
}

/// The key as we keep it: compressed.
fn ecdsa_key(key_type: KeyType, uncompressed: &[u8]) -> VerifyingKey {
    assert_eq!((uncompressed.len(), uncompressed[0]), (65, 4));
    let compressed = [&[2 + (uncompressed[64] & 1)], &uncompressed[1..33]].concat();
    VerifyingKey::new(&PublicKey::new(key_type, &compressed).unwrap()).unwrap()
}

/// Whether the second half of r ‖ s is at most half of secp256k1's order.
fn has_low_s(signature: &[u8]) -> bool {
    const HALF_ORDER: [u8; 32] = [
        0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b,
        0x20, 0xa0,
    ];
    signature.len() == 64 && signature[32..] <= HALF_ORDER[..]
}

#[test]
fn ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = ed25519_key(&group.key.pk);
        for test in group.tests {
            let accepted = key.verifies(Algorithm::Ed25519, &test.msg, &test.sig);
            let valid = test.result == TestResult::Valid;
            assert_eq!(accepted, valid, "case {}: {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
}

#[test]
fn p256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = ecdsa_key(KeyType::P256, &group.key.key);
        for test in group.tests {
            let accepted = key.verifies(Algorithm::EcdsaP256Sha256, &test.msg, &test.sig);
            let valid = test.result == TestResult::Valid;
            assert_eq!(accepted, valid, "case {}: {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
}

#[test]
fn secp256k1() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256k1Sha256P1363).unwrap();
    let (mut count, mut high_s) = (0, 0);
    for group in set.test_groups {
        let key = ecdsa_key(KeyType::Secp256k1, &group.key.key);
        for test in group.tests {
            let accepted = key.verifies(Algorithm::Es256k, &test.msg, &test.sig);
            let valid = test.result == TestResult::Valid;
            let wanted = valid && has_low_s(&test.sig);
            assert_eq!(accepted, wanted, "case {}: {}", test.tc_id, test.comment);
            count += 1;
            high_s += usize::from(valid && !wanted);
        }
    }
    assert_eq!(count, set.number_of_tests);
    assert!(high_s > 0, "the policy was tried");
}

/// Bitcoin's rules are ours: high S is invalid. Its encoding is DER, which is never sent here: a
/// signature that is not DER has no 64 bytes to verify.
#[test]
fn secp256k1_with_the_rules_of_bitcoin() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256k1Sha256Bitcoin).unwrap();
    let (mut count, mut malleable) = (0, 0);
    for group in set.test_groups {
        let key = ecdsa_key(KeyType::Secp256k1, &group.key.key);
        for test in group.tests {
            let accepted = k256::ecdsa::Signature::from_der(&test.sig).is_ok_and(|signature| {
                key.verifies(Algorithm::Es256k, &test.msg, &signature.to_bytes())
            });
            let valid = test.result == TestResult::Valid;
            assert_eq!(accepted, valid, "case {}: {}", test.tc_id, test.comment);
            assert!(!key.verifies(Algorithm::Es256k, &test.msg, &test.sig), "DER is not taken");
            count += 1;
            malleable += usize::from(test.flags.contains(&TestFlag::SignatureMalleabilityBitcoin));
        }
    }
    assert_eq!(count, set.number_of_tests);
    assert!(malleable > 0, "the rule was tried");
}
