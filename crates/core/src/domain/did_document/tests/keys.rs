//! Keys in every form that a verification method may have them in.

use super::*;

/// What comes of the one method of a document: its key, or why it is left out.
fn read(kind: &str, rest: &Value) -> Result<PublicKey, String> {
    let methods = [method("#k", kind, rest)];
    let document = parse(json!({ "id": DID, "verificationMethod": methods })).expect("a document");
    match (document.methods(), document.unusable()) {
        ([method], []) => Ok(method.key.clone()),
        ([], [unusable]) => {
            assert_eq!(unusable.id.as_deref(), Some(format!("{DID}#k").as_str()));
            assert_eq!(unusable.pointer, "/verificationMethod/0");
            Err(unusable.reason.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// From DID Core 1.0, appendix A.2 ("various verification method types"), and the vectors of
/// did:key, which have the same key in several forms.
#[test]
fn keys_are_read_in_every_form() {
    let ed25519 = key("z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp");
    let secp256k1 = key(SECP256K1);
    let p256 = key("zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv");
    let base58 = json!({ "publicKeyBase58": "4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS" });
    let multibase = |key: &PublicKey| json!({ "publicKeyMultibase": key.to_multikey() });
    let p256_jwk = json!({ "publicKeyJwk": {
        "kty": "EC", "crv": "P-256",
        "x": "igrFmi0whuihKnj9R3Om1SoMph72wUGeFaBbzG2vzns",
        "y": "efsX5b10x8yjyrj4ny3pGfLcY7Xby1KzgqOdqnsrJIM",
    }});
    for (kind, form, expected) in [
        ("Ed25519VerificationKey2018", base58, &ed25519),
        ("Ed25519VerificationKey2020", multibase(&ed25519), &ed25519),
        ("Multikey", multibase(&ed25519), &ed25519),
        ("Multikey", multibase(&p256), &p256),
        ("EcdsaSecp256k1VerificationKey2019", multibase(&secp256k1), &secp256k1),
        (
            "EcdsaSecp256k1VerificationKey2019",
            json!({ "publicKeyBase58": "23o6Sau8NxxzXcgSc3PLcNxrzrZpbLeBn1izfv3jbKhuv" }),
            &secp256k1,
        ),
        ("JsonWebKey2020", p256_jwk.clone(), &p256),
        ("JsonWebKey", p256_jwk.clone(), &p256),
        ("EcdsaSecp256r1VerificationKey2019", p256_jwk, &p256),
    ] {
        assert_eq!(read(kind, &form).as_ref(), Ok(expected), "{kind} {form}");
    }

    let ed25519 = json!({ "publicKeyJwk": {
        "kty": "OKP", "crv": "Ed25519", "x": "VCpo2LMLhn6iWku8MKvSLg2ZAoC-nlOyPVQaO3FxVeQ",
    }});
    let ed25519 = read("JsonWebKey2020", &ed25519).expect("usable");
    assert_eq!(ed25519.key_type(), KeyType::Ed25519);
    let secp256k1_jwk = json!({ "publicKeyJwk": {
        "kty": "EC", "crv": "secp256k1",
        "x": "Z4Y3NNOxv0J6tCgqOBFnHnaZhJF6LdulT7z8A-2D5_8",
        "y": "i5a2NtJoUKXkLm6q8nOEu9WOkso1Ag6FTUT6k_LMnGk",
    }});
    let expected = read("EcdsaSecp256k1VerificationKey2019", &secp256k1_jwk);
    assert_eq!(expected.as_ref().map(PublicKey::key_type), Ok(KeyType::Secp256k1));
    assert_eq!(read("JsonWebKey2020", &secp256k1_jwk), expected);
}

#[test]
fn a_point_in_hexadecimal_may_be_uncompressed() {
    let secret = k256::SecretKey::from_slice(&[7; 32]).expect("a scalar");
    let sec1 = |compress| {
        k256::elliptic_curve::sec1::ToSec1Point::to_sec1_point(&secret.public_key(), compress)
    };
    let expected = PublicKey::new(KeyType::Secp256k1, sec1(true).as_bytes()).expect("a key");
    for bytes in [sec1(true), sec1(false)] {
        let kind = "EcdsaSecp256k1VerificationKey2019";
        let hex = base16ct::lower::encode_string(bytes.as_bytes());
        let base58 = bs58::encode(bytes.as_bytes()).into_string();
        for form in [
            json!({ "publicKeyHex": hex }),
            json!({ "publicKeyHex": hex.to_uppercase() }),
            json!({ "publicKeyBase58": base58 }),
        ] {
            assert_eq!(read(kind, &form), Ok(expected.clone()));
        }
    }
}

#[test]
fn what_cannot_sign_for_us_is_left_out() {
    let p384 = json!({ "publicKeyJwk": {
        "kty": "EC", "crv": "P-384",
        "x": "lInTxl8fjLKp_UCrxI0WDklahi-7-_6JbtiHjiRvMvhedhKVdHBfi2HCY8t_QJyc",
        "y": "y6N1IC-2mXxHreETBW7K3mBcw0qGr3CWHCs-yl09yCQRLcyfGv7XhqAngHOu51Zv",
    }});
    let x25519 = json!({ "publicKeyJwk": {
        "kty": "OKP", "crv": "X25519", "x": "pE_mG098rdQjY3MKK2D5SUQ6ZOEW3a6Z6T7Z4SgnzCE",
    }});
    let account = json!({
        "blockchainAccountId": "eip155:1:0xab16a96d359ec26a11e2c2b3d8f8b8942d5bfcdb",
    });
    let p384_multikey = "z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9";
    let base58 = json!({ "publicKeyBase58": "4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS" });
    let multibase = |text: &str| json!({ "publicKeyMultibase": text });
    let of_other_curve = "is none of kty OKP with crv Ed25519";
    for (kind, form, reason) in [
        ("JsonWebKey2020", p384, of_other_curve),
        ("JsonWebKey2020", x25519, of_other_curve),
        (
            "JsonWebKey2020",
            json!({ "publicKeyJwk": { "kty": "RSA", "e": "AQAB", "n": "AA" } }),
            of_other_curve,
        ),
        ("Multikey", multibase(&multikey::of_x25519(&[9; 32])), "X25519 keys are not supported"),
        ("Multikey", multibase(p384_multikey), "P-384 keys are not supported"),
        ("Multikey", base58, "does not say of what type the key is"),
        ("X25519KeyAgreementKey2020", multibase("malformed"), "of its type is not supported"),
        ("EcdsaSecp256k1RecoveryMethod2020", account.clone(), "of its type is not supported"),
        ("EcdsaSecp256k1VerificationKey2019", account, "it has no key"),
        ("VerifiableCondition2021", json!({}), "of its type is not supported"),
    ] {
        let refused = read(kind, &form).expect_err(kind);
        assert!(refused.contains(reason), "{kind} {form}: {refused}");
    }
}

#[test]
fn a_malformed_key_is_left_out() {
    let jwk = |jwk: Value| ("JsonWebKey2020", json!({ "publicKeyJwk": jwk }));
    let x = "VCpo2LMLhn6iWku8MKvSLg2ZAoC-nlOyPVQaO3FxVeQ";
    let mut identity = [0; 32];
    identity[0] = 1;
    let identity = bs58::encode(identity).into_string();
    for ((kind, form), expected) in [
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519" })), "32 bytes"),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": 7 })), "32 bytes"),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": format!("{x}=") })), "32 bytes"),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x.replace('-', "+") })), "32 bytes"),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "d": x })), "private key"),
        (jwk(json!({ "kty": "EC", "crv": "P-384", "d": x })), "private key"),
        (jwk(json!({ "kty": "EC", "crv": "P-256", "x": x })), "32 bytes"),
        (jwk(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": x })), "not a point on the P256"),
        (jwk(json!({ "crv": "Ed25519", "x": x })), "is none of kty OKP"),
        (("JsonWebKey", json!({ "publicKeyJwk": x })), "wrong JSON type"),
        (("Multikey", json!({ "publicKeyMultibase": 7 })), "wrong JSON type"),
        (("Multikey", json!({ "publicKeyMultibase": "f00" })), "multibase"),
        (
            ("Multikey", json!({ "publicKeyMultibase": ED25519, "secretKeyMultibase": "z" })),
            "private key",
        ),
        (
            ("Multikey", json!({ "publicKeyMultibase": ED25519, "publicKeyJwk": {} })),
            "both publicKeyMultibase and publicKeyJwk",
        ),
        // As in examples of DID Core 1.0: the raw key, which the type's own text forbids.
        (
            (
                "Ed25519VerificationKey2020",
                json!({ "publicKeyMultibase": "zH3C2AVvLMv6gmMNam3uVAjZpfkcJCwDwnZn6z3wXmqPV" }),
            ),
            "of no known type (multicodec)",
        ),
        (
            ("Ed25519VerificationKey2020", json!({ "publicKeyMultibase": SECP256K1 })),
            "holds no Secp256k1 key",
        ),
        (("Ed25519VerificationKey2018", json!({ "publicKeyBase58": identity })), "small order"),
        (("Ed25519VerificationKey2018", json!({ "publicKeyBase58": "0OIl" })), "be decoded"),
        (
            ("Ed25519VerificationKey2018", json!({ "publicKeyBase58": "2".repeat(60_000) })),
            "be decoded",
        ),
        (("EcdsaSecp256k1VerificationKey2019", json!({ "publicKeyHex": "02zz" })), "be decoded"),
        (("EcdsaSecp256k1VerificationKey2019", json!({ "publicKeyHex": "0200" })), "33 bytes"),
    ] {
        match read(kind, &form) {
            Err(reason) => assert!(reason.contains(expected), "{kind} {form}: {reason}"),
            Ok(key) => panic!("{kind} {form}: {key:?}"),
        }
    }
}

/// RFC 7517, sections 4.2 to 4.4: a key for something else verifies nothing.
#[test]
fn a_jwk_says_what_it_is_for() {
    let ed25519 = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "VCpo2LMLhn6iWku8MKvSLg2ZAoC-nlOyPVQaO3FxVeQ",
    });
    let secp256k1 = json!({
        "kty": "EC", "crv": "secp256k1",
        "x": "Z4Y3NNOxv0J6tCgqOBFnHnaZhJF6LdulT7z8A-2D5_8",
        "y": "i5a2NtJoUKXkLm6q8nOEu9WOkso1Ag6FTUT6k_LMnGk",
    });
    let p256 = json!({
        "kty": "EC", "crv": "P-256",
        "x": "igrFmi0whuihKnj9R3Om1SoMph72wUGeFaBbzG2vzns",
        "y": "efsX5b10x8yjyrj4ny3pGfLcY7Xby1KzgqOdqnsrJIM",
    });
    let read_with = |jwk: &Value, more: &Value| {
        let mut jwk = jwk.clone();
        for (name, value) in more.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        read("JsonWebKey2020", &json!({ "publicKeyJwk": jwk }))
    };
    for (jwk, more) in [
        (&ed25519, json!({ "use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "kid": "a" })),
        (&ed25519, json!({ "alg": "Ed25519", "key_ops": ["sign", "verify"], "use": "sig" })),
        (&ed25519, json!({ "key_ops": ["verify", "https://example.com/other"] })),
        (&secp256k1, json!({ "use": "sig", "alg": "ES256K" })),
        (&p256, json!({ "alg": "ES256", "ext": true })),
    ] {
        assert!(read_with(jwk, &more).is_ok(), "{jwk} {more}");
    }
    let (usage, operations) =
        ("use of its publicKeyJwk", "key_ops of its publicKeyJwk are no list");
    let algorithm = "alg of its publicKeyJwk is not for";
    for (jwk, more, reason) in [
        (&ed25519, json!({ "use": "enc" }), usage),
        (&ed25519, json!({ "use": "SIG" }), usage),
        (&ed25519, json!({ "use": null }), usage),
        (&ed25519, json!({ "use": ["sig"] }), usage),
        (&ed25519, json!({ "key_ops": ["sign"] }), operations),
        (&ed25519, json!({ "key_ops": [] }), operations),
        (&ed25519, json!({ "key_ops": ["Verify"] }), operations),
        (&ed25519, json!({ "key_ops": ["verify", "verify"] }), operations),
        (&ed25519, json!({ "key_ops": ["verify", 7] }), operations),
        (&ed25519, json!({ "key_ops": "verify" }), operations),
        (&ed25519, json!({ "key_ops": null }), operations),
        (&p256, json!({ "use": "sig", "key_ops": ["verify", "deriveKey"] }), "contradict"),
        (&ed25519, json!({ "alg": "ES256" }), algorithm),
        (&ed25519, json!({ "alg": "ECDH-ES" }), algorithm),
        (&ed25519, json!({ "alg": "Ed448" }), algorithm),
        (&ed25519, json!({ "alg": null }), algorithm),
        (&secp256k1, json!({ "alg": "ES256" }), algorithm),
        (&p256, json!({ "alg": "ES256K" }), algorithm),
        (&p256, json!({ "alg": "ECDH-ES+A128KW" }), algorithm),
        (&p256, json!({ "crv": "P-384" }), "is none of kty OKP"),
        (&p256, json!({ "crv": "Ed25519" }), "is none of kty OKP"),
        (&ed25519, json!({ "kty": "EC" }), "is none of kty OKP"),
        (&ed25519, json!({ "kty": "okp" }), "is none of kty OKP"),
        (&p256, json!({ "crv": "secp256k1" }), "not a point on the Secp256k1 curve"),
        // A coordinate has all its bytes, and no others.
        (&p256, json!({ "x": "AIoKxZotMIboISp4_UdzptUqDKYe9sFBnhWgW8xtr857" }), "32 bytes"),
        (&p256, json!({ "x": "CsWaLTCG6CEqeP1Hc6bVKgymHvbBQZ4VoFvMba_OXg" }), "32 bytes"),
        (&p256, json!({ "y": "efsX5b10x8yjyrj4ny3pGfLcY7Xby1KzgqOdqnsrJIM=" }), "32 bytes"),
        // The last character's two spare bits are zero.
        (&p256, json!({ "y": "efsX5b10x8yjyrj4ny3pGfLcY7Xby1KzgqOdqnsrJIN" }), "32 bytes"),
    ] {
        let refused = read_with(jwk, &more).expect_err("no key to verify with");
        assert!(refused.contains(reason), "{jwk} {more}: {refused}");
    }
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let refused = read_with(&p256, &json!({ private: "AA" })).expect_err(private);
        assert!(refused.contains("publishes the private key"), "{private}: {refused}");
    }
}
