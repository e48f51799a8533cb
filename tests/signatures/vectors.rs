//! The vectors that the clients share, `clients/vectors/signatures.json`: our signer writes the same
//! fields for the same requests, and every language's signature passes our checks.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::domain::{DidUrl, Nonce, Timestamp};
use onceguard::signatures::{Profile, Request, Signer, SigningKey};
use serde_json::Value;

use crate::messages::{Message, seconds, verifying};

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn message(case: &Value) -> Message {
    let lines = case["headers"].as_array().unwrap().iter();
    Message {
        method: text(case, "method").to_owned(),
        // A fragment is not sent.
        url: text(case, "url").split('#').next().unwrap().to_owned(),
        headers: lines
            .map(|line| {
                let value = line[1].as_str().unwrap().as_bytes().to_vec();
                (line[0].as_str().unwrap().to_owned(), value)
            })
            .collect(),
        body: Some(STANDARD.decode(text(case, "body")).unwrap()),
    }
}

#[test]
fn every_language_signs_the_same_and_passes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/vectors/signatures.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let name = text(case, "name");
        let known = &vectors["keys"][text(case, "key")];
        let key = SigningKey::from_pem(text(known, "pem")).unwrap();
        let key_id = DidUrl::parse(text(known, "keyid")).unwrap();
        let agent = Signer { key: key.clone(), key_id, profile: Profile::onceguard() };
        let now = Timestamp::from_timestamp(case["created"].as_i64().unwrap(), 0).unwrap();
        let nonce = Nonce::parse(text(case, "nonce")).unwrap();
        let unsigned = message(case);

        let ours = unsigned
            .as_request(|request: &Request<'_>| agent.sign(request, &nonce, now))
            .expect(name);
        let fields = &case["fields"];
        assert_eq!(ours.signature_input, text(fields, "Signature-Input"), "{name}");
        assert_eq!(ours.content_digest.as_deref(), fields["Content-Digest"].as_str(), "{name}");

        let signatures = case["signatures"].as_object().unwrap();
        assert!(signatures.len() >= 2, "{name}");
        for (language, signature) in signatures {
            let mut sent = unsigned.clone();
            for (field, value) in fields.as_object().unwrap() {
                sent = sent.with(field, value.as_str().unwrap());
            }
            let signature = signature.as_str().unwrap();
            let sent = sent.with("Signature", &format!("sig1=:{signature}:"));
            let judged = sent.judge_at(&agent.profile, &verifying(&key), now + seconds(1));
            assert_eq!(judged, Ok(()), "{name}, signed in {language}");
        }
    }
}
