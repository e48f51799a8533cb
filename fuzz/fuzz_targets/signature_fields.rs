//! Arbitrary bytes as the fields of a signed request: no panic, no unbounded memory, and nothing
//! is ever accepted.
//!
//! The lines of the input: `Signature-Input`, `Signature`, `Content-Digest`, the query.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onceguard_core::domain::{KeyType, Timestamp};
use onceguard_core::signatures::{Body, Profile, Request, SigningKey, Target, VerifyingKey, check};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|&byte| byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let headers = [("signature-input", part()), ("signature", part()), ("content-digest", part())];
    let query = String::from_utf8_lossy(part());
    let url = format!("https://a.example/?{query}");
    let Ok(target) = Target::parse(&url) else { return };
    let request = Request { method: "GET", target, headers: &headers, body: Body::Seen(b"") };

    // A profile that lets as much as possible through to where components get their values.
    let mut profile = Profile::sage();
    profile.max_window = chrono::Duration::days(1_000_000);
    profile.skew = chrono::Duration::days(1_000_000);
    profile.coverage.always.clear();
    profile.coverage.when_sent.clear();
    let Some(now) = Timestamp::from_timestamp(1_800_000_000, 0) else { return };
    let Ok(checked) = check(&request, &profile, now) else { return };
    let secret = SigningKey::from_bytes(KeyType::Ed25519, &[7; 32]).expect("a key");
    let key = VerifyingKey::new(secret.public_key()).expect("a key");
    if let Ok(bound) = checked.with_key(&key) {
        assert!(bound.verify().is_err(), "nobody can sign without the key");
    }
});
