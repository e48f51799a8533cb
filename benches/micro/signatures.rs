//! A signed request: the parsing and checks, the signature base, the verification; and all
//! together.

use divan::Bencher;
use onceguard::clock::Clock;
use onceguard::domain::{DidUrl, KeyType, Nonce, Timestamp};
use onceguard::resolvers::did_key;
use onceguard::signatures::{
    Body, Profile, Request, Signer, SigningKey, Target, VerifyingKey, check,
};

const TYPES: [KeyType; 3] = [KeyType::Ed25519, KeyType::P256, KeyType::Secp256k1];
const CONTENT: &[u8] = br#"{"amount":1}"#;

struct Message {
    headers: Vec<(String, String)>,
    profile: Profile,
    key: VerifyingKey,
    now: Timestamp,
}

impl Message {
    fn signed(key_type: KeyType) -> Self {
        let key = SigningKey::from_bytes(key_type, &[7; 32]).unwrap();
        let verifying = VerifyingKey::new(key.public_key()).unwrap();
        let did = did_key::encode(key.public_key()).unwrap();
        let key_id = DidUrl::parse(did.as_str()).unwrap();
        let signer = Signer { key, key_id, profile: Profile::onceguard() };
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let nonce = Nonce::parse("a-nonce-of-22-letters.").unwrap();
        let now = Clock::system().now();
        let fields = signer.sign(&request(&lines(&headers)), &nonce, now).unwrap();
        headers.extend(fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        Self { headers, profile: signer.profile, key: verifying, now }
    }
}

fn lines(headers: &[(String, String)]) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

fn request<'a>(headers: &'a [(&'a str, &'a [u8])]) -> Request<'a> {
    let target = Target::parse("https://service.example/orders?id=1").unwrap();
    Request { method: "POST", target, headers, body: Body::Seen(CONTENT) }
}

/// Steps 1 to 6, without the key.
#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let message = Message::signed(KeyType::Ed25519);
    let headers = lines(&message.headers);
    let request = request(&headers);
    bencher.bench(|| check(&request, &message.profile, message.now).unwrap());
}

#[divan::bench]
fn base(bencher: Bencher<'_, '_>) {
    let message = Message::signed(KeyType::Ed25519);
    let headers = lines(&message.headers);
    let request = request(&headers);
    let checked = check(&request, &message.profile, message.now).unwrap();
    bencher.bench(|| checked.signature_base().unwrap());
}

/// Base, signature and digest.
#[divan::bench(args = TYPES)]
fn verify(bencher: Bencher<'_, '_>, key_type: KeyType) {
    let message = Message::signed(key_type);
    let headers = lines(&message.headers);
    let request = request(&headers);
    let checked = check(&request, &message.profile, message.now).unwrap();
    bencher.bench(|| checked.with_key(&message.key).unwrap().verify().unwrap());
}

#[divan::bench(args = TYPES)]
fn all(bencher: Bencher<'_, '_>, key_type: KeyType) {
    let message = Message::signed(key_type);
    let headers = lines(&message.headers);
    bencher.bench(|| {
        let request = request(&headers);
        let checked = check(&request, &message.profile, message.now).unwrap();
        checked.with_key(&message.key).unwrap().verify().unwrap();
    });
}
