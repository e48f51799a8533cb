//! Documents: where their keys are, and which may sign.

mod keys;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{DidUrl, KeyType, multikey};

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

/// The usable keys, by fragment, and whether they may sign.
fn keys(document: &DidDocument) -> Vec<(&str, bool)> {
    document
        .methods()
        .iter()
        .map(|method| (method.id.strip_prefix(DID).unwrap_or(&method.id), method.authentication))
        .collect()
}

/// What is left out: where it is, its fragment, and why.
fn left_out(document: &DidDocument) -> Vec<(&str, Option<&str>, &str)> {
    document
        .unusable()
        .iter()
        .map(|method| {
            let id = method.id.as_deref().map(|id| id.strip_prefix(DID).unwrap_or(id));
            (method.pointer.as_str(), id, method.reason.as_str())
        })
        .collect()
}

const MISSING: &str = "the document has no verification method of this id";
const OF_OTHERS: &str = "it names no key of the DID's own";
const NO_METHOD: &str = "it is no verification method, with an id and a type";
const NO_LIST: &str = "it is no list";
const DUPLICATE: &str = "the document has two verification methods of this id";
const OTHER_CONTROLLER: &str = "its controller is not the DID";
const TOO_MANY: &str = "more than 20 keys of a document are not read";
const OTHER_TYPE: &str = "a verification method of its type is not supported";

#[test]
fn only_what_authentication_names_may_sign() {
    let absolute = format!("{DID}#b");
    let document = parse(json!({
        "id": DID,
        "verificationMethod": [
            multikey_method("#a"), multikey_method(&absolute), multikey_method("#c"),
            multikey_method("#d"),
        ],
        "assertionMethod": ["#a", "did:example:other#d"],
        "authentication": [
            &absolute, "#c", "#not-there", "#not-there", "did:example:other#d", "no id", "#",
            method("#e", "Multikey", &json!({ "publicKeyMultibase": SECP256K1 })),
        ],
    }))
    .expect("a document");
    let expected = [("#a", false), ("#b", true), ("#c", true), ("#d", false), ("#e", true)];
    assert_eq!(keys(&document), expected);
    assert_eq!(document.methods()[4].key, key(SECP256K1));
    assert_eq!(document.first_key(), Some(&key(ED25519)));
    assert_eq!(
        left_out(&document),
        [
            ("/authentication/4", None, OF_OTHERS),
            ("/authentication/5", None, OF_OTHERS),
            ("/authentication/6", None, OF_OTHERS),
            ("/authentication/2", Some("#not-there"), MISSING),
        ]
    );
}

/// DID Core 1.0, section 5.2.2: what a relationship names may be embedded in another.
#[test]
fn a_key_is_found_wherever_it_is_embedded() {
    for relationship in
        ["assertionMethod", "keyAgreement", "capabilityInvocation", "capabilityDelegation"]
    {
        for reference in ["#k".to_owned(), format!("{DID}#k")] {
            for id in ["#k".to_owned(), format!("{DID}#k")] {
                let document = parse(json!({
                    "id": DID,
                    relationship: [multikey_method(&id), multikey_method("#other")],
                    "authentication": [reference],
                }))
                .expect("a document");
                assert_eq!(keys(&document), [("#k", true), ("#other", false)], "{relationship}");
                assert_eq!(left_out(&document), []);
            }
        }
    }
    // One method, word for word, in several relationships.
    let document = parse(json!({
        "id": DID,
        "assertionMethod": [multikey_method("#k")],
        "authentication": [multikey_method("#k")],
        "capabilityInvocation": [multikey_method("#k"), "#k"],
    }))
    .expect("a document");
    assert_eq!((keys(&document), left_out(&document)), (vec![("#k", true)], vec![]));
    // A member that is not a relationship holds no keys.
    let document = parse(json!({
        "id": DID,
        "service": [multikey_method("#k")],
        "publicKey": [multikey_method("#k")],
        "authentication": ["#k"],
    }))
    .expect("a document");
    assert_eq!(keys(&document), []);
    assert_eq!(left_out(&document), [("/authentication/0", Some("#k"), MISSING)]);
}

#[test]
fn two_methods_of_one_id_are_both_left_out() {
    let absolute = format!("{DID}#k");
    let other = method("#k", "Multikey", &json!({ "publicKeyMultibase": SECP256K1 }));
    let unknown = method("#k", "VerifiableCondition2021", &json!({}));
    for (listed, embedded) in [
        (json!([multikey_method("#k"), other]), json!([])),
        (json!([multikey_method("#k"), multikey_method(&absolute)]), json!([])),
        (json!([multikey_method("#k"), multikey_method("#k")]), json!([])),
        (json!([unknown]), json!([multikey_method("#k")])),
        (json!([multikey_method("#k"), unknown]), json!([multikey_method("#k")])),
        (json!([multikey_method("#k")]), json!([multikey_method("#k"), other])),
    ] {
        let mut listed = listed;
        listed.as_array_mut().expect("a list").insert(0, multikey_method("#good"));
        let document = parse(json!({
            "id": DID,
            "verificationMethod": listed,
            "assertionMethod": embedded,
            "authentication": ["#k", "#good"],
        }))
        .expect("a document");
        assert_eq!(keys(&document), [("#good", true)], "{document:?}");
        assert_eq!(left_out(&document), [("/verificationMethod/1", Some("#k"), DUPLICATE)]);
    }
}

#[test]
fn keys_under_the_control_or_name_of_others_do_not_count() {
    let other = |id: &str, controller: Value| json!({ "id": id, "type": "Multikey", "controller": controller, "publicKeyMultibase": ED25519 });
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
            multikey_method("#good"),
        ],
        "authentication": ["#a", "#b", "#c", "#good"],
    }))
    .expect("a document");
    assert_eq!(keys(&document), [("#good", true)]);
    assert_eq!(
        left_out(&document),
        [
            ("/verificationMethod/3", None, OF_OTHERS),
            ("/verificationMethod/4", None, OF_OTHERS),
            ("/verificationMethod/5", None, OF_OTHERS),
            ("/verificationMethod/6", None, OF_OTHERS),
            ("/verificationMethod/0", Some("#a"), OTHER_CONTROLLER),
            ("/verificationMethod/1", Some("#b"), OTHER_CONTROLLER),
            ("/verificationMethod/2", Some("#c"), OTHER_CONTROLLER),
        ]
    );
}

/// A good key stays usable beside anything that is wrong.
#[test]
fn what_cannot_be_used_spoils_no_other_key() {
    let of_other_type = method("#b", "VerifiableCondition2021", &json!({}));
    let mut revoked = multikey_method("#b");
    revoked["revoked"] = json!("2026-01-01T00:00:00Z");
    let says_so = "the document says that it is revoked";
    for (list, entry, expected) in [
        ("verificationMethod", revoked.clone(), (Some(1), Some("#b"), says_so)),
        ("authentication", revoked, (Some(1), Some("#b"), says_so)),
        ("verificationMethod", json!("#k"), (Some(1), None, NO_METHOD)),
        ("verificationMethod", json!(null), (Some(1), None, NO_METHOD)),
        ("verificationMethod", json!({ "id": "#b" }), (Some(1), None, NO_METHOD)),
        ("verificationMethod", json!({ "type": "Multikey" }), (Some(1), None, NO_METHOD)),
        ("verificationMethod", json!({ "id": 7, "type": "x" }), (Some(1), None, NO_METHOD)),
        ("verificationMethod", of_other_type, (Some(1), Some("#b"), OTHER_TYPE)),
        ("authentication", json!(7), (Some(1), None, NO_METHOD)),
        ("authentication", json!({ "type": "Multikey" }), (Some(1), None, NO_METHOD)),
        ("assertionMethod", json!([]), (Some(1), None, NO_METHOD)),
    ] {
        let mut document = json!({
            "id": DID,
            "verificationMethod": [multikey_method("#good")],
            "authentication": ["#good"],
            "assertionMethod": ["#good"],
        });
        document[list].as_array_mut().expect("a list").push(entry);
        let document = parse(document).expect("a document");
        assert_eq!(keys(&document), [("#good", true)], "{document:?}");
        let pointer = format!("/{list}/{}", expected.0.expect("an index"));
        assert_eq!(left_out(&document), [(pointer.as_str(), expected.1, expected.2)]);
    }
    for list in ["verificationMethod", "assertionMethod", "keyAgreement"] {
        let mut document = json!({ "id": DID, "authentication": [multikey_method("#good")] });
        document[list] = multikey_method("#b");
        let document = parse(document).expect("a document");
        assert_eq!(keys(&document), [("#good", true)], "{list}");
        assert_eq!(left_out(&document), [(format!("/{list}").as_str(), None, NO_LIST)]);
    }
    let document = parse(json!({
        "id": DID, "verificationMethod": [multikey_method("#k")], "authentication": "#k",
    }))
    .expect("a document");
    assert_eq!(keys(&document), [("#k", false)]);
    assert_eq!(left_out(&document), [("/authentication", None, NO_LIST)]);
}

#[test]
fn twenty_keys_are_read_those_that_may_sign_first() {
    let many = |numbers: std::ops::Range<usize>| -> Vec<Value> {
        numbers.map(|n| multikey_method(&format!("#{n}"))).collect()
    };
    let full = parse(json!({ "id": DID, "verificationMethod": many(0..20) }));
    let full = full.expect("a document");
    assert_eq!((full.methods().len(), left_out(&full)), (20, vec![]));

    let document = parse(json!({
        "id": DID,
        "verificationMethod": many(0..21),
        "authentication": [multikey_method("#embedded"), "#20"],
    }))
    .expect("a document");
    assert_eq!(document.methods().len(), 20);
    let signing: Vec<&str> =
        keys(&document).into_iter().filter_map(|(id, signs)| signs.then_some(id)).collect();
    assert_eq!(signing, ["#20", "#embedded"]);
    assert_eq!(
        left_out(&document),
        [
            ("/verificationMethod/18", Some("#18"), TOO_MANY),
            ("/verificationMethod/19", Some("#19"), TOO_MANY),
        ]
    );

    // Those that are of no use from the outset take no place of others, and not all are named.
    let unknown = (0..30).map(|n| method(&format!("#u{n}"), "VerifiableCondition2021", &json!({})));
    let document = parse(json!({
        "id": DID,
        "verificationMethod": unknown.chain(many(0..20)).collect::<Vec<_>>(),
        "authentication": vec!["#19"; 100],
    }))
    .expect("a document");
    assert_eq!((document.methods().len(), document.unusable().len()), (20, 20));
}

#[test]
fn what_is_no_document_of_the_did_is_refused() {
    for (document, expected) in [
        (json!(null), InvalidDocument::NotADocument),
        (json!([{ "id": DID }]), InvalidDocument::NotADocument),
        (json!({}), InvalidDocument::NotADocument),
        (json!({ "id": [DID] }), InvalidDocument::NotADocument),
        (json!({ "id": "did:example:1234" }), InvalidDocument::WrongId),
        (json!({ "id": "did:example:123#k" }), InvalidDocument::WrongId),
        (json!({ "id": DID, "a": [{ "b": ["\0"] }] }), InvalidDocument::NullCharacter),
        (json!({ "id": DID, "a": { "b\0": 1 } }), InvalidDocument::NullCharacter),
    ] {
        assert_eq!(parse(document.clone()), Err(expected), "{document}");
    }
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
        DidDocument::of_keys(&did(), &methods, &[agreement]),
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
        "assertionMethod",
        "publicKeyMultibase",
        "publicKeyJwk",
        "publicKeyBase58",
        "publicKeyHex",
        "kty",
        "crv",
        "x",
        "y",
        "d",
        "use",
        "key_ops",
        "alg",
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
