//! DIDs: stored ones and did:key, read through the cache, listed, forgotten.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, a_did, a_public_key};

/// Every member of a DID, as api.md lists them.
const MEMBERS: [&str; 13] = [
    "created_at",
    "deactivated",
    "did",
    "fetched_at",
    "key_type",
    "owner_address",
    "public_key",
    "revoked",
    "source",
    "stale_at",
    "unusable_methods",
    "updated_at",
    "verification_methods",
];

/// From the did:key specification.
const DID_KEYS: [(&str, &str); 3] = [
    ("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", "Ed25519"),
    ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", "Secp256k1"),
    ("did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169", "P256"),
];

/// The base64 of the key in a did:key: without `z` and the two bytes of the multicodec.
pub(crate) fn key_in(did: &str) -> String {
    let encoded = did.strip_prefix("did:key:z").unwrap();
    STANDARD.encode(&bs58::decode(encoded).into_vec().unwrap()[2..])
}

pub(crate) fn ed25519(number: u8) -> Value {
    json!({"key_type": "Ed25519", "public_key": STANDARD.encode(a_public_key(number).as_bytes())})
}

fn path_of(did: &impl std::fmt::Display) -> String {
    format!("/v1/dids/{did}")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_key_is_read_back(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    app.refuses(app.request("GET", &path_of(&did)), 404, "did_not_found").await;
    let mut key = ed25519(1);
    key["owner_address"] = json!("0x0000000000000000000000000000000000000001");
    let before = app.store().now().await.unwrap();
    let put = app.put(&path_of(&did), &key).await.is(201);
    let read = app.get(&path_of(&did)).await.is(200);
    assert_eq!(members(read.json()), MEMBERS);
    for answer in [&put, &read] {
        for member in ["key_type", "public_key", "owner_address"] {
            assert_eq!(answer[member], key[member], "{member}");
        }
        assert_eq!(answer["did"], did.as_str());
        assert_eq!((&answer["revoked"], &answer["source"]), (&json!(false), &json!("stored")));
        assert!(time(&answer["created_at"]) >= before);
        assert_eq!(answer["updated_at"], answer["created_at"]);
    }
    assert_eq!(
        read["verification_methods"],
        json!([{
            "id": format!("{did}#key-1"),
            "key_type": "Ed25519",
            "public_key": key["public_key"],
            "authentication": true,
        }])
    );
    assert!(time(&read["stale_at"]) > time(&read["fetched_at"]));
    assert_eq!(read.header("age"), Some("0"));
    assert_eq!(read.header("cache-control"), Some("private, max-age=300"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_and_seen_at_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    let mut last = app.put(&path_of(&did), &ed25519(1)).await.is(201);
    for number in 2..6 {
        app.get(&path_of(&did)).await.is(200);
        let put = app.put(&path_of(&did), &ed25519(number)).await.is(200);
        assert_eq!(put["created_at"], last["created_at"]);
        assert!(time(&put["updated_at"]) > time(&last["updated_at"]));
        let read = app.get(&path_of(&did)).await.is(200);
        assert_eq!(read["public_key"], ed25519(number)["public_key"], "not from an old cache");
        last = put;
    }
    // Without an owner's address there is none afterwards.
    assert_eq!(last["owner_address"], json!(null));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_unknown_is_seen_as_soon_as_it_is_stored(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let did = a_did();
    app.get(&path_of(&did)).await.refused(404, "did_not_found");
    app.put(&path_of(&did), &ed25519(1)).await.is(201);
    app.get(&path_of(&did)).await.is(200);
    app.delete(&path_of(&did)).await.is(204);
    app.get(&path_of(&did)).await.refused(404, "did_not_found");
    app.put(&path_of(&did), &ed25519(2)).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_fresh_gets_fresh(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    app.put(&path_of(&did), &ed25519(1)).await.is(201);
    app.get(&path_of(&did)).await.is(200);
    for (owner, fresh) in [("one", "GET ?max_age=0"), ("two", "POST /refresh")] {
        // Another instance changes it.
        let sql = format!("UPDATE dids SET owner_address = '{owner}' WHERE did = '{did}'");
        app.store().raw().execute(&sql).await;
        let answer = match fresh.split_once(' ').unwrap() {
            ("GET", query) => app.get(&format!("{}{query}", path_of(&did))).await,
            (_, path) => app.request("POST", &format!("{}{path}", path_of(&did))).send().await,
        };
        assert_eq!(answer.is(200)["owner_address"], owner, "{fresh}");
        assert_eq!(app.get(&path_of(&did)).await["owner_address"], owner, "and leaves it cached");
    }
    let unknown = a_did();
    let request = app.request("POST", &format!("{}/refresh", path_of(&unknown)));
    app.refuses(request, 404, "did_not_found").await;
    app.get(&format!("{}?max_age=0", path_of(&unknown))).await.refused(404, "did_not_found");
    app.get(&format!("{}?max_age=4294967295", path_of(&did))).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_key_is_its_own_key(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let before = app.data().await;
    for (did, key_type) in DID_KEYS {
        let read = app.get(&path_of(&did)).await.is(200);
        assert_eq!(members(read.json()), MEMBERS);
        let (key, fragment) = (key_in(did), did.strip_prefix("did:key:").unwrap());
        assert_eq!((&read["key_type"], &read["public_key"]), (&json!(key_type), &json!(key)));
        assert_eq!((&read["source"], &read["revoked"]), (&json!("key"), &json!(false)));
        assert_eq!((&read["created_at"], &read["updated_at"]), (&json!(null), &json!(null)));
        assert_eq!(
            read["verification_methods"],
            json!([{
                "id": format!("{did}#{fragment}"),
                "key_type": key_type,
                "public_key": key,
                "authentication": true,
            }])
        );
        app.request("POST", &format!("{}/refresh", path_of(&did))).send().await.is(200);
    }
    for did in ["did:key:abc", "did:key:z", "did:key:z0OIl", "did:key:z6Mk", "did:key:zQ3shok"] {
        app.get(&path_of(&did)).await.refused(422, "did_unresolvable");
        let request = app.request("POST", &format!("{}/refresh", path_of(&did)));
        app.refuses(request, 422, "did_unresolvable").await;
    }
    assert_eq!(app.data().await, before, "computed, not stored");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_key_is_stored_with_its_own_key_alone(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for (did, key_type) in DID_KEYS {
        let own = json!({"key_type": key_type, "public_key": key_in(did)});
        let other = if key_type == "Ed25519" { ed25519(9) } else { ed25519(1) };
        let request = app.request("PUT", &path_of(&did)).json(&other);
        app.refuses(request, 422, "validation_failed").await.names(&["/public_key"]);
        let stored = app.put(&path_of(&did), &own).await.is(201);
        assert_eq!(stored["public_key"], own["public_key"]);
        app.put(&path_of(&did), &own).await.is(200);
        let read = app.get(&path_of(&did)).await.is(200);
        assert!(read["created_at"].is_string(), "{read:?}");
        app.delete(&path_of(&did)).await.is(204);
        assert_eq!(app.get(&path_of(&did)).await.is(200)["created_at"], json!(null));
    }
    let request = app.request("PUT", "/v1/dids/did:key:abc").json(&ed25519(1));
    app.refuses(request, 422, "validation_failed").await.names(&["/public_key"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn weak_and_malformed_keys_are_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let good = key_in(DID_KEYS[0].0);
    let (secp256k1, p256) = (key_in(DID_KEYS[1].0), key_in(DID_KEYS[2].0));
    let key = |bytes: &[u8]| STANDARD.encode(bytes);
    let mut identity = [0; 32];
    identity[0] = 1;
    let uncompressed = key(&[[4].as_slice(), &[1; 64]].concat());
    for (key_type, public_key) in [
        ("Ed25519", key(&[])),
        ("Ed25519", key(&[9; 31])),
        ("Ed25519", key(&[9; 33])),
        ("Ed25519", key(&identity)),
        ("Ed25519", key(&[0; 32])),
        ("Ed25519", key(&[0xff; 32])),
        ("Ed25519", secp256k1.clone()),
        ("Secp256k1", good.clone()),
        ("Secp256k1", uncompressed.clone()),
        ("Secp256k1", key(&[[2].as_slice(), &[0xff; 32]].concat())),
        ("Secp256k1", key(&[[5].as_slice(), &[1; 32]].concat())),
        ("Secp256k1", key(&[0; 33])),
        ("P256", uncompressed),
        ("P256", key(&[0; 33])),
        ("P256", key(&[[2].as_slice(), &[0xff; 32]].concat())),
        ("Ed25519", good.trim_end_matches('=').to_owned()),
        ("Ed25519", format!("{good} ")),
        ("Ed25519", good.replace('+', "-").replace('/', "_") + "_"),
    ] {
        let body = json!({"key_type": key_type, "public_key": public_key});
        let request = app.request("PUT", &path_of(&a_did())).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(&["/public_key"]);
    }
    let did = path_of(&a_did());
    for (body, pointers) in [
        (json!({}), &["/key_type", "/public_key"][..]),
        (json!({"key_type": "Ed25519"}), &["/public_key"]),
        (json!({"public_key": good}), &["/key_type"]),
        (json!({"key_type": "ed25519", "public_key": good}), &["/key_type"]),
        (json!({"key_type": "RSA", "public_key": 7}), &["/key_type", "/public_key"]),
        (json!({"key_type": "Ed25519", "public_key": good, "revoked": false}), &["/revoked"]),
        (
            json!({"key_type": "Ed25519", "public_key": good, "owner_address": ""}),
            &["/owner_address"],
        ),
        (
            json!({"key_type": "Ed25519", "public_key": good, "owner_address": "a b"}),
            &["/owner_address"],
        ),
        (
            json!({"key_type": "Ed25519", "public_key": good, "owner_address": "x".repeat(256)}),
            &["/owner_address"],
        ),
    ] {
        let request = app.request("PUT", &did).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    for (key_type, public_key) in [("Secp256k1", secp256k1), ("P256", p256), ("Ed25519", good)] {
        let body = json!({"key_type": key_type, "public_key": public_key});
        let stored = app.put(&path_of(&a_did()), &body).await.is(201);
        assert_eq!(
            (&stored["key_type"], &stored["public_key"]),
            (&body["key_type"], &body["public_key"])
        );
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_forgotten(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    app.refuses(app.request("DELETE", &path_of(&did)), 404, "did_not_found").await;
    app.put(&path_of(&did), &ed25519(1)).await.is(201);
    assert!(app.delete(&path_of(&did)).await.is(204).body.is_empty());
    app.refuses(app.request("DELETE", &path_of(&did)), 404, "did_not_found").await;
    app.get(&path_of(&did)).await.refused(404, "did_not_found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dids_are_listed_and_narrowed(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (secp256k1, _) = DID_KEYS[1];
    let owned = |mut key: Value, owner: &str| {
        key["owner_address"] = json!(owner);
        key
    };
    let ec = json!({"key_type": "Secp256k1", "public_key": key_in(secp256k1)});
    for (did, key) in [
        ("did:web:c.example", owned(ed25519(1), "0xA")),
        ("did:web:B.example", owned(ec, "0xA")),
        ("did:web:a.example%3A8443", ed25519(3)),
        ("did:web:a.example", owned(ed25519(2), "0xB")),
    ] {
        app.put(&path_of(&did), &key).await.is(201);
    }
    app.request("POST", "/v1/dids/did:web:c.example/revoke").send().await.is(200);
    app.request("POST", "/v1/dids/did:web:unseen.example/revoke").send().await.is(200);
    let names = |page: &Answer| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["did"].as_str().unwrap().replace("did:web:", "")).collect()
    };
    let list = async |query: &str| names(&app.get(&format!("/v1/dids?{query}")).await.is(200));
    // In the order of their bytes, on both databases.
    let all = ["B.example", "a.example", "a.example%3A8443", "c.example", "unseen.example"];
    assert_eq!(list("").await, all);
    assert_eq!(list("owner_address=0xA").await, ["B.example", "c.example"]);
    assert_eq!(list("owner_address=0xa").await, Vec::<String>::new());
    assert_eq!(list("key_type=Secp256k1").await, ["B.example"]);
    assert_eq!(list("key_type=Ed25519").await, ["a.example", "a.example%3A8443", "c.example"]);
    assert_eq!(list("revoked=true").await, ["c.example", "unseen.example"]);
    assert_eq!(list("revoked=false").await, all[..3]);
    assert_eq!(list("revoked=true&owner_address=0xA&key_type=Ed25519").await, ["c.example"]);

    let mut walked = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app.get(&format!("/v1/dids?limit=2{cursor}")).await.is(200);
        walked.extend(names(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(walked, all);
    let unseen = app.get("/v1/dids?limit=1&revoked=true").await;
    let mut listed: Vec<_> = MEMBERS.to_vec();
    listed.retain(|member| !member.ends_with("_methods"));
    assert_eq!(members(&unseen["items"][0]), listed);
    let text = app.get("/v1/dids?revoked=true").await;
    assert_eq!(text["items"][1]["public_key"], json!(null));
}
