//! Which keys of a DID document sign: those that `authentication` names, wherever they are. One
//! that cannot be used is left out and named, and spoils no other.

use onceguard::domain::{DidUrl, KeyType};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Says, TestApp, Upstream, an_upstream_did};
use crate::verify::{now, order, verify};

/// An agent whose DID lives upstream, and whose keyid has this fragment.
fn agent_at(fragment: &str) -> Agent {
    let mut agent = Agent::new(KeyType::Ed25519);
    agent.did = an_upstream_did();
    name_key(&mut agent, fragment);
    agent
}

fn name_key(agent: &mut Agent, fragment: &str) {
    let keyid = DidUrl::parse(&format!("{}#{fragment}", agent.did)).unwrap();
    agent.signer.key_id = keyid;
}

/// A method with the agent's key.
fn method_of(agent: &Agent, fragment: &str) -> Value {
    json!({
        "id": format!("#{fragment}"),
        "type": "Multikey",
        "controller": agent.did.as_str(),
        "publicKeyMultibase": agent.signer.key.public_key().to_multikey(),
    })
}

/// A method with the agent's key as a JWK that says this of itself.
fn jwk_of(agent: &Agent, fragment: &str, more: &Value) -> Value {
    use base64::Engine as _;
    let x =
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(agent.signer.key.public_key().as_bytes());
    let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    for (name, value) in more.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    json!({
        "id": format!("#{fragment}"),
        "type": "JsonWebKey2020",
        "controller": agent.did.as_str(),
        "publicKeyJwk": jwk,
    })
}

async fn start(on: Database) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| upstream.configure(config)).await;
    (app, upstream)
}

/// What the refusal says.
async fn key_unknown(app: &TestApp, agent: &Agent) -> String {
    let answer = verify(app, &order().signed(agent, now(app))).await;
    answer.refused(403, "signature_key_unknown").text_of("detail")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_relationship_embeds_may_sign(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let agent = agent_at("k");
    let document = json!({
        "id": agent.did.as_str(),
        "assertionMethod": [method_of(&agent, "k")],
        "authentication": ["#k"],
    });
    upstream.says(&agent.did, Says::Document(document));
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    // And as it is stored.
    app.restart().await;
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    assert_eq!(upstream.asked(), 1);

    // Embedded, but not named: it may not.
    let agent = agent_at("k");
    let document = json!({
        "id": agent.did.as_str(),
        "assertionMethod": [method_of(&agent, "k")],
        "authentication": ["did:example:another#k"],
    });
    upstream.says(&agent.did, Says::Document(document));
    let detail = key_unknown(&app, &agent).await;
    assert!(detail.contains("has no key"), "{detail}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_no_use_is_named_and_spoils_no_other(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let mut agent = agent_at("good");
    let did = agent.did.clone();
    let malformed = json!({
        "id": "#bad", "type": "Multikey", "controller": did.as_str(), "publicKeyMultibase": "z0",
    });
    let x25519 = json!({
        "id": "#agree", "type": "Multikey", "controller": did.as_str(),
        "publicKeyMultibase": "z6LSeu9HkTHSfLLeUs2nnzUSNedgDUevfNQgQjQC23ZCit6F",
    });
    let many = (0..30).map(|n| method_of(&agent, &format!("spare-{n}")));
    let methods = [malformed, x25519].into_iter().chain(many);
    let document = json!({
        "id": did.as_str(),
        "verificationMethod": methods.chain([method_of(&agent, "good")]).collect::<Vec<_>>(),
        "authentication": ["#bad", "#good"],
    });
    upstream.says(&did, Says::Document(document));
    for _ in 0..2 {
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
        name_key(&mut agent, "bad");
        let detail = key_unknown(&app, &agent).await;
        name_key(&mut agent, "good");
        assert!(detail.contains(&format!("{did}#bad cannot be used: ")), "{detail}");
        assert!(detail.contains("multibase"), "{detail}");

        let read = app.get(&format!("/v1/dids/{did}")).await.is(200);
        assert_eq!(read["verification_methods"].as_array().unwrap().len(), 18);
        let unusable = read["unusable_methods"].as_array().unwrap();
        assert_eq!(unusable[0]["id"], format!("{did}#bad"));
        assert_eq!(unusable[0]["pointer"], "/verificationMethod/0");
        assert_eq!(unusable[1]["id"], format!("{did}#agree"));
        assert!(unusable[1]["detail"].as_str().unwrap().starts_with("X25519 keys"), "{read:?}");
        assert!(unusable.len() <= 20, "{}", unusable.len());
        // The document is given as it is.
        let document = app.get(&format!("/1.0/identifiers/{did}")).await.is(200);
        assert_eq!(document["didDocument"]["verificationMethod"].as_array().unwrap().len(), 33);
        app.restart().await;
    }
    assert_eq!(upstream.asked(), 1);
}

/// RFC 7517, sections 4.2 to 4.4.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_jwk_for_something_else_does_not_sign(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    for (more, may_sign) in [
        (json!({}), true),
        (json!({ "use": "sig", "key_ops": ["verify"], "alg": "EdDSA" }), true),
        (json!({ "use": "enc" }), false),
        (json!({ "key_ops": ["sign"] }), false),
        (json!({ "key_ops": ["verify", "verify"] }), false),
        (json!({ "alg": "ES256" }), false),
        (json!({ "d": "AA" }), false),
    ] {
        let agent = agent_at("k");
        let document = json!({
            "id": agent.did.as_str(), "authentication": [jwk_of(&agent, "k", &more)],
        });
        upstream.says(&agent.did, Says::Document(document));
        if may_sign {
            verify(&app, &order().signed(&agent, now(&app))).await.is(200);
        } else {
            let detail = key_unknown(&app, &agent).await;
            assert!(detail.contains("#k cannot be used: "), "{more}: {detail}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_keys_of_one_id_sign_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let (agent, other) = (agent_at("k"), Agent::new(KeyType::Ed25519));
    let mut others = method_of(&other, "k");
    others["controller"] = agent.did.as_str().into();
    let document = json!({
        "id": agent.did.as_str(),
        "verificationMethod": [method_of(&agent, "k"), others],
        "authentication": ["#k"],
    });
    upstream.says(&agent.did, Says::Document(document));
    let detail = key_unknown(&app, &agent).await;
    assert!(detail.contains("two verification methods of this id"), "{detail}");
}
