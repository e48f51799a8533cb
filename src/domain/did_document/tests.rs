use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{KeyType, multikey};

const DID: &str = "did:example:123";
const ED25519: &str = "z6MkmM42vxfqZQsv4ehtTjFFxQ4sQKS2w6WR7emozFAn5cxu";
const SECP256K1: &str = "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";

fn did() -> Did {
    Did::parse(DID).expect("a DID")
}

fn key(multikey: &str) -> PublicKey {
    PublicKey::from_multikey(multikey).expect("a key")
}

fn parse(document: Value) -> Result<DidDocument, InvalidDocument> {
    DidDocument::parse(&did(), document)
}

/// A method of the DID, with what `rest` says of its key.
fn method(id: &str, kind: &str, rest: &Value) -> Value {
    let mut method = json!({ "id": id, "type": kind, "controller": DID });
    for (name, value) in rest.as_object().expect("an object") {
        method[name] = value.clone();
    }
    method
}

fn multikey_method(id: &str) -> Value {
    method(id, "Multikey", &json!({ "publicKeyMultibase": ED25519 }))
}

/// What comes of the one method of a document.
fn read(kind: &str, rest: &Value) -> Result<Option<PublicKey>, String> {
    let methods = [method("#k", kind, rest)];
    match parse(json!({ "id": DID, "verificationMethod": methods })) {
        Ok(document) => Ok(document.methods().first().map(|method| method.key.clone())),
        Err(InvalidDocument::Method { id, reason }) => {
            assert_eq!(id, format!("{DID}#k"));
            Err(reason)
        }
        Err(other) => panic!("{other}"),
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
        assert_eq!(read(kind, &form).as_ref(), Ok(&Some(expected.clone())), "{kind} {form}");
    }

    let ed25519 = json!({ "publicKeyJwk": {
        "kty": "OKP", "crv": "Ed25519", "x": "VCpo2LMLhn6iWku8MKvSLg2ZAoC-nlOyPVQaO3FxVeQ",
    }});
    let ed25519 = read("JsonWebKey2020", &ed25519).expect("well-formed").expect("usable");
    assert_eq!(ed25519.key_type(), KeyType::Ed25519);
    let secp256k1_jwk = json!({ "publicKeyJwk": {
        "kty": "EC", "crv": "secp256k1",
        "x": "Z4Y3NNOxv0J6tCgqOBFnHnaZhJF6LdulT7z8A-2D5_8",
        "y": "i5a2NtJoUKXkLm6q8nOEu9WOkso1Ag6FTUT6k_LMnGk",
    }});
    let expected = read("EcdsaSecp256k1VerificationKey2019", &secp256k1_jwk);
    assert_eq!(
        expected.as_ref().ok().and_then(Option::as_ref).map(PublicKey::key_type),
        Some(KeyType::Secp256k1)
    );
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
            assert_eq!(read(kind, &form), Ok(Some(expected.clone())));
        }
    }
}

#[test]
fn what_cannot_sign_for_us_is_passed_over() {
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
    for (kind, form) in [
        ("JsonWebKey2020", p384),
        ("JsonWebKey2020", x25519),
        ("JsonWebKey2020", json!({ "publicKeyJwk": { "kty": "RSA", "e": "AQAB", "n": "AA" } })),
        ("Multikey", json!({ "publicKeyMultibase": multikey::of_x25519(&[9; 32]) })),
        ("Multikey", json!({ "publicKeyMultibase": p384_multikey })),
        ("Multikey", json!({ "publicKeyBase58": "4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS" })),
        ("X25519KeyAgreementKey2020", json!({ "publicKeyMultibase": "malformed" })),
        ("EcdsaSecp256k1RecoveryMethod2020", account.clone()),
        ("EcdsaSecp256k1VerificationKey2019", account),
        ("VerifiableCondition2021", json!({})),
    ] {
        assert_eq!(read(kind, &form), Ok(None), "{kind} {form}");
    }
}

#[test]
fn a_malformed_key_spoils_the_document() {
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
        (jwk(json!({ "crv": "Ed25519", "x": x })), "no kty"),
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
            "multicodec",
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

#[test]
fn only_what_authentication_names_may_sign() {
    let absolute = format!("{DID}#b");
    let document = parse(json!({
        "id": DID,
        "verificationMethod": [
            multikey_method("#a"), multikey_method(&absolute), multikey_method("#c"),
            multikey_method("#d"),
        ],
        "assertionMethod": ["#a"],
        "authentication": [
            &absolute, "#c", "#not-there", "did:example:other#d", "no id", "#",
            method("#e", "Multikey", &json!({ "publicKeyMultibase": SECP256K1 })),
        ],
    }))
    .expect("a document");
    let methods: Vec<(&str, bool)> =
        document.methods().iter().map(|m| (m.id.as_str(), m.authentication)).collect();
    assert_eq!(
        methods,
        [
            ("did:example:123#a", false),
            ("did:example:123#b", true),
            ("did:example:123#c", true),
            ("did:example:123#d", false),
            ("did:example:123#e", true),
        ]
    );
    assert_eq!(document.methods()[4].key, key(SECP256K1));
    assert_eq!(document.first_key(), Some(&key(ED25519)));
}

#[test]
fn keys_under_the_control_or_name_of_others_do_not_count() {
    let other = |id: &str, controller: Value| json!({ "id": id, "type": "Multikey", "controller": controller, "publicKeyMultibase": "f" });
    let document = parse(json!({
        "id": DID,
        "verificationMethod": [
            other("#a", json!("did:example:other")),
            other("#b", json!([DID])),
            { "id": "#c", "type": "Multikey", "publicKeyMultibase": ED25519 },
            other("did:example:other#d", json!(DID)),
            other("did:example:123/path#e", json!(DID)),
            other("no id", json!(DID)),
            other(DID, json!(DID)),
        ],
        "authentication": ["#a", "#b", "#c", "did:example:other#d"],
    }));
    assert_eq!(document.expect("a document").methods(), []);
}

#[test]
fn what_is_no_document_of_the_did_is_refused() {
    let twice = InvalidDocument::DuplicateMethod(format!("{DID}#k"));
    let absolute = format!("{DID}#k");
    let unknown = method("#k", "VerifiableCondition2021", &json!({}));
    let many = |count: usize| -> Value {
        (0..count).map(|n| multikey_method(&format!("#{n}"))).collect::<Vec<_>>().into()
    };
    for (document, expected) in [
        (json!(null), InvalidDocument::NotADocument),
        (json!([{ "id": DID }]), InvalidDocument::NotADocument),
        (json!({}), InvalidDocument::NotADocument),
        (json!({ "id": [DID] }), InvalidDocument::NotADocument),
        (json!({ "id": "did:example:1234" }), InvalidDocument::WrongId),
        (json!({ "id": "did:example:123#k" }), InvalidDocument::WrongId),
        (json!({ "id": DID, "a": [{ "b": ["\0"] }] }), InvalidDocument::NullCharacter),
        (json!({ "id": DID, "a": { "b\0": 1 } }), InvalidDocument::NullCharacter),
        (
            json!({ "id": DID, "verificationMethod": multikey_method("#k") }),
            InvalidDocument::NotMethods("verificationMethod"),
        ),
        (
            json!({ "id": DID, "verificationMethod": ["#k"] }),
            InvalidDocument::NotMethods("verificationMethod"),
        ),
        (
            json!({ "id": DID, "verificationMethod": [{ "id": "#k" }] }),
            InvalidDocument::NotMethods("verificationMethod"),
        ),
        (
            json!({ "id": DID, "authentication": "#k" }),
            InvalidDocument::NotMethods("authentication"),
        ),
        (
            json!({ "id": DID, "authentication": [7] }),
            InvalidDocument::NotMethods("authentication"),
        ),
        (
            json!({ "id": DID, "authentication": [{ "type": "Multikey" }] }),
            InvalidDocument::NotMethods("authentication"),
        ),
        (
            json!({
                "id": DID,
                "verificationMethod": [multikey_method("#k"), multikey_method(&absolute)],
            }),
            twice.clone(),
        ),
        (
            json!({
                "id": DID,
                "verificationMethod": [unknown],
                "authentication": [multikey_method("#k")],
            }),
            twice,
        ),
        (json!({ "id": DID, "verificationMethod": many(21) }), InvalidDocument::TooManyMethods),
        (
            json!({
                "id": DID,
                "verificationMethod": many(20),
                "authentication": [multikey_method("#k")],
            }),
            InvalidDocument::TooManyMethods,
        ),
        (json!({ "id": DID, "authentication": vec!["#k"; 21] }), InvalidDocument::TooManyMethods),
    ] {
        assert_eq!(parse(document.clone()), Err(expected), "{document}");
    }
    let full = parse(json!({ "id": DID, "verificationMethod": many(20) }));
    assert_eq!(full.expect("a document").methods().len(), 20);
}

#[test]
fn what_we_build_is_what_we_read() {
    let methods = vec![
        VerificationMethod { id: format!("{DID}#a"), key: key(ED25519), authentication: false },
        VerificationMethod { id: format!("{DID}#b"), key: key(SECP256K1), authentication: true },
    ];
    let agreement = KeyAgreement { id: format!("{DID}#c"), x25519: [9; 32] };
    for document in [
        DidDocument::of_key(&did(), format!("{DID}#key-1"), key(ED25519)),
        DidDocument::of_keys(&did(), methods, &[agreement]),
    ] {
        let json = document.json().clone();
        assert_eq!(parse(Value::Object(json)), Ok(document));
    }
}

#[test]
fn a_did_key_has_the_document_of_its_method() {
    for multikey in [ED25519, SECP256K1, "zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"] {
        let did = Did::parse(&format!("did:key:{multikey}")).expect("a DID");
        let id = format!("{did}#{multikey}");
        let document = DidDocument::of_did_key(&did, key(multikey));
        assert_eq!(
            Value::Object(document.json().clone()),
            json!({
                "@context": [
                    "https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1",
                ],
                "id": did.as_str(),
                "verificationMethod": [{
                    "id": id,
                    "type": "Multikey",
                    "controller": did.as_str(),
                    "publicKeyMultibase": multikey,
                }],
                "authentication": [id],
                "assertionMethod": [id],
                "capabilityInvocation": [id],
                "capabilityDelegation": [id],
            })
        );
        assert_eq!(DidDocument::parse(&did, Value::Object(document.json().clone())), Ok(document));
    }
}

/// Texts that lead deep into the reader, and any other.
fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        DID,
        "#k",
        "did:example:123#k",
        "Multikey",
        "JsonWebKey2020",
        "Ed25519VerificationKey2018",
        "EcdsaSecp256k1VerificationKey2019",
        "OKP",
        "EC",
        "P-256",
        "Ed25519",
        "secp256k1",
        ED25519,
        SECP256K1,
        "VCpo2LMLhn6iWku8MKvSLg2ZAoC-nlOyPVQaO3FxVeQ",
    ]);
    prop_oneof![known.prop_map(str::to_owned), ".{0,80}"]
}

fn object(member: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let names = [
        "id",
        "type",
        "controller",
        "verificationMethod",
        "authentication",
        "publicKeyMultibase",
        "publicKeyJwk",
        "publicKeyBase58",
        "publicKeyHex",
        "kty",
        "crv",
        "x",
        "y",
        "d",
    ];
    vec((prop::sample::select(names.to_vec()), member), 0..8).prop_map(|members| {
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![vec(inner.clone(), 0..8).prop_map(Value::from), object(inner)]
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_reader_panic(
        listed in any_json(), embedded in any_json(), key in object(any_json()),
    ) {
        let _ = parse(listed.clone());
        let mut method = multikey_method("#k");
        for (name, value) in key.as_object().expect("an object") {
            method[name] = value.clone();
        }
        let document = json!({
            "id": DID,
            "verificationMethod": [method, listed],
            "authentication": ["#k", embedded],
        });
        if let Ok(document) = parse(document) {
            prop_assert!(document.methods().len() <= DidDocument::MAX_METHODS);
            for method in document.methods() {
                let is_own = DidUrl::parse(&method.id).is_ok_and(|url| *url.did() == did());
                prop_assert!(is_own);
            }
        }
    }
}
