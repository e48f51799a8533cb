//! What others fell into, as far as it shows without a database: the list at the end of the
//! design of signed requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration;
use curve25519_dalek::Scalar;
use onceguard::domain::{Code, InvalidKey, KeyType, PublicKey};
use onceguard::signatures::{
    Algorithm, DigestMismatch, NotVerified, Profile, Refused, TagMismatch, check, content_digest,
};
use sha2::{Digest as _, Sha512};

use crate::messages::{Input, Message, key, key_id, nonce, now, seconds, signer, verifying};

fn code(result: &Result<(), Refused>) -> &'static str {
    Code::from(result.as_ref().expect_err("it should be refused")).as_str()
}

#[test]
fn a_nonce_is_kept_for_as_long_as_its_message_is_accepted() {
    for profile in [Profile::onceguard(), Profile::sage()] {
        let agent = signer(KeyType::Ed25519, profile.clone());
        let message = Message::get().signed(&agent);
        let key = verifying(&agent.key);
        let kept_until = message.as_request(|request| {
            check(request, &profile, now()).expect("acceptable").keep_nonce_until(&[])
        });
        assert_eq!(message.judge_at(&profile, &key, kept_until), Ok(()));
        let later = message.judge_at(&profile, &key, kept_until + Duration::microseconds(1));
        assert_eq!(code(&later), "signature_window_invalid");
    }
}

/// What one profile has let pass must not pass another one after its nonce was forgotten.
#[test]
fn a_nonce_is_kept_for_as_long_as_any_profile_accepts_its_message() {
    let sage = Profile::sage();
    let (mut patient, mut lasting) = (Profile::sage(), Profile::sage());
    patient.skew = Duration::seconds(3600);
    lasting.default_lifetime = Some(Duration::seconds(290));
    lasting.skew = Duration::seconds(80);
    let others = [Profile::onceguard(), patient, lasting];
    let key = verifying(&key(KeyType::Ed25519));
    for expires in [None, Some(now().timestamp() + 10)] {
        let input = Input { expires, tag: None, ..Input::good() };
        let message = Message::get().signed_as(&input.text());
        let kept_until = |others: &[Profile]| {
            message.as_request(|request| {
                check(request, &sage, now()).expect("acceptable").keep_nonce_until(others)
            })
        };
        assert!(kept_until(&[]) < kept_until(&others[2..]), "{expires:?}");
        let kept_until = kept_until(&others);
        let accepted = |at| others.iter().any(|other| message.judge_at(other, &key, at).is_ok());
        assert!(accepted(kept_until), "{expires:?}");
        assert!(!accepted(kept_until + Duration::microseconds(1)), "{expires:?}");
    }
}

#[test]
fn without_created_no_profile_accepts() {
    for profile in [Profile::onceguard(), Profile::sage()] {
        let input = Input { created: None, ..Input::good() };
        let message = Message::get().signed_as(&input.text());
        let result = message.judge(&profile, &verifying(&key(KeyType::Ed25519)));
        assert_eq!(code(&result), "signature_params_incomplete");
    }
}

#[test]
fn an_empty_nonce_is_accepted_by_no_profile() {
    let mut careless = Profile::onceguard();
    careless.min_nonce_len = 0;
    for profile in [Profile::onceguard(), Profile::sage(), careless] {
        for nonce in [None, Some("")] {
            let input = Input { nonce, ..Input::good() };
            let message = Message::get().with_signature(&input.text(), &[0; 64]);
            let result = message.judge(&profile, &verifying(&key(KeyType::Ed25519)));
            assert_eq!(code(&result), "signature_params_incomplete");
        }
    }
}

/// The digest is right, and so is the signature; but nobody has signed the digest.
#[test]
fn a_digest_that_is_not_covered() {
    let post = Message::post();
    let digest = content_digest(post.body.as_deref().unwrap());
    let components = "\"@method\" \"@target-uri\" \"content-type\"";
    let message = post
        .with("Content-Digest", &digest)
        .signed_as(&Input { components, ..Input::good() }.text());
    let result = message.judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)));
    assert_eq!(code(&result), "signature_components_incomplete");
}

#[test]
fn a_digest_by_deprecated_algorithms() {
    let components = "\"@method\" \"@target-uri\" \"content-type\" \"content-digest\"";
    let message = Message::post()
        .with("Content-Digest", "md5=:wWWDmzDQ6EPvLK1fGYMWQg==:")
        .signed_as(&Input { components, ..Input::good() }.text());
    let result = message.judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)));
    assert_eq!(result, Err(Refused::Digest(DigestMismatch::NoneUsable)));
}

#[test]
fn several_signatures_and_no_tag_to_choose_by() {
    let sage = Profile::sage();
    let agent = signer(KeyType::Ed25519, sage.clone());
    let signed = Message::get().signed(&agent);
    let key = verifying(&agent.key);
    assert_eq!(signed.judge(&sage, &key), Ok(()));
    for position in ["first", "last"] {
        let add = |value: String, other: &str| match position {
            "first" => format!("{other}, {value}"),
            _ => format!("{value}, {other}"),
        };
        let two = signed
            .clone()
            .edit("Signature-Input", |value| add(value, "other=();created=1"))
            .edit("Signature", |value| add(value, "other=:AA==:"));
        assert_eq!(two.judge(&sage, &key), Err(Refused::Tag(TagMismatch::Untagged(2))));
    }
}

/// A signature is judged by the algorithm of the key's type, whatever `alg` says.
#[test]
fn algorithms_are_not_confused() {
    let types = [KeyType::Ed25519, KeyType::Secp256k1, KeyType::P256];
    let mut profile = Profile::onceguard();
    profile.algorithms.push(Algorithm::Es256kKeccak);
    for signed_with in types {
        let message = Message::get().signed(&signer(signed_with, Profile::onceguard()));
        for judged_with in types {
            let result = message.judge(&profile, &verifying(&key(judged_with)));
            assert_eq!(result.is_ok(), signed_with == judged_with, "{signed_with} {judged_with}");
        }
    }
    // The name of an algorithm that the profile allows, for a key of another type.
    for (key_type, alg) in [
        (KeyType::Ed25519, "ecdsa-p256-sha256"),
        (KeyType::Ed25519, "es256k"),
        (KeyType::P256, "ed25519"),
        (KeyType::Secp256k1, "ed25519"),
        (KeyType::Secp256k1, "ecdsa-p256-sha256"),
        // Of the right type; but the profile's first one for it has no name.
        (KeyType::Secp256k1, "es256k"),
    ] {
        let input = Input { alg: Some(alg), ..Input::good() };
        let message = Message::get().with_signature(&input.text(), &[1; 64]);
        let result = message.judge(&profile, &verifying(&key(key_type)));
        assert_eq!(code(&result), "signature_alg_not_allowed", "{key_type} {alg}");
    }
    // The same key and digest length, another hash and another form.
    let key = verifying(&key(KeyType::Secp256k1));
    for (profile, other) in
        [(Profile::onceguard(), Algorithm::Es256kKeccak), (Profile::sage(), Algorithm::Es256k)]
    {
        let message = Message::get().signed(&signer(KeyType::Secp256k1, profile.clone()));
        assert_eq!(message.judge(&profile, &key), Ok(()));
        let mut confused = profile;
        confused.algorithms = vec![other];
        confused.alg_required = false;
        assert!(message.judge(&confused, &key).is_err());
    }
}

/// The bytes of a message's only signature.
fn signature_of(message: &Message) -> Vec<u8> {
    let field = message.header("Signature");
    STANDARD.decode(field.trim_start_matches("sig1=:").trim_end_matches(':')).unwrap()
}

fn with_signature_bytes(message: &Message, bytes: &[u8]) -> Message {
    let field = format!("sig1=:{}:", STANDARD.encode(bytes));
    message.clone().edit("Signature", |_| field)
}

/// n − s, where n is the order of secp256k1.
fn negated(s: &[u8]) -> Vec<u8> {
    let s = k256::NonZeroScalar::try_from(s).unwrap();
    k256::FieldBytes::from(-s).to_vec()
}

#[test]
fn high_s_is_refused() {
    for profile in [Profile::onceguard(), Profile::sage()] {
        let message = Message::get().signed(&signer(KeyType::Secp256k1, profile.clone()));
        let key = verifying(&key(KeyType::Secp256k1));
        assert_eq!(message.judge(&profile, &key), Ok(()));
        let mut signature = signature_of(&message);
        let high = negated(&signature[32..64]);
        signature[32..64].copy_from_slice(&high);
        if let Some(v) = signature.get_mut(64) {
            *v ^= 1;
        }
        let result = with_signature_bytes(&message, &signature).judge(&profile, &key);
        assert_eq!(result, Err(Refused::Invalid(NotVerified::Signature)));
    }
}

/// One value of v is right: neither 27 more, as Ethereum's wallets write it, nor no v at all.
#[test]
fn the_recovery_id_has_one_form() {
    let sage = Profile::sage();
    let message = Message::get().signed(&signer(KeyType::Secp256k1, sage.clone()));
    let key = verifying(&key(KeyType::Secp256k1));
    let signature = signature_of(&message);
    assert_eq!(signature.len(), 65);
    for v in 0..=u8::MAX {
        let mut changed = signature.clone();
        changed[64] = v;
        let accepted = with_signature_bytes(&message, &changed).judge(&sage, &key).is_ok();
        assert_eq!(accepted, v == signature[64], "v = {v}");
    }
    for other_length in [&signature[..64], &[&signature[..], &[0]].concat()] {
        assert!(with_signature_bytes(&message, other_length).judge(&sage, &key).is_err());
    }
}

/// What other systems write for the same r and s (RFC 3279, section 2.2.3) is no second form.
#[test]
fn der_is_refused() {
    for (key_type, profile) in [
        (KeyType::Secp256k1, Profile::onceguard()),
        (KeyType::Secp256k1, Profile::sage()),
        (KeyType::P256, Profile::onceguard()),
    ] {
        let message = Message::get().signed(&signer(key_type, profile.clone()));
        let signature = signature_of(&message);
        let der = match key_type {
            KeyType::P256 => {
                p256::ecdsa::Signature::from_slice(&signature[..64]).unwrap().to_der().to_bytes()
            }
            _ => k256::ecdsa::Signature::from_slice(&signature[..64]).unwrap().to_der().to_bytes(),
        };
        let key = verifying(&key(key_type));
        assert_eq!(message.judge(&profile, &key), Ok(()));
        let result = with_signature_bytes(&message, &der).judge(&profile, &key);
        assert_eq!(result, Err(Refused::Invalid(NotVerified::Signature)), "{key_type}");
    }
}

#[test]
fn ed25519_keys_of_small_order_are_no_keys() {
    // The eight points of small order, in every encoding that decompresses.
    for text in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        let bytes: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        let refused = PublicKey::new(KeyType::Ed25519, &bytes);
        assert!(
            matches!(refused, Err(InvalidKey::Weak | InvalidKey::NotAPoint(_))),
            "{text}: {refused:?}"
        );
    }
}

/// With R the neutral point, S = H(R, A, M)·a satisfies the equation. Only strict verification
/// refuses it.
#[test]
fn an_ed25519_signature_whose_r_has_small_order() {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = secret.verifying_key();
    let message = Message::get();
    let input = Input::good().text();
    let base = message.base(&input);
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let hash = Sha512::new()
        .chain_update(neutral)
        .chain_update(public.as_bytes())
        .chain_update(&base)
        .finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.into());
    let s = challenge * secret.to_scalar();
    let signature = [neutral, s.to_bytes()].concat();

    let parsed = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    let lax = ed25519_dalek::Verifier::verify(&public, base.as_bytes(), &parsed);
    assert!(lax.is_ok(), "the equation holds");
    let result = message
        .with_signature(&input, &signature)
        .judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)));
    assert_eq!(result, Err(Refused::Invalid(NotVerified::Signature)));
}

#[test]
fn a_rewritten_host_is_noticed() {
    let components = "\"@method\" \"@authority\" \"@path\" \"@query\"";
    let parts = Message::get().signed_as(&Input { components, ..Input::good() }.text());
    let whole = Message::get().signed_as(&Input::good().text());
    for message in [parts, whole] {
        for host in ["service.example.evil.example", "evil.example", "service.example:8443"] {
            let url = message.url.replace("service.example", host);
            let result = Message { url, ..message.clone() }
                .judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)));
            assert_eq!(code(&result), "signature_invalid", "{host}");
        }
    }
}

/// What is signed is the bytes of the URL: other spellings that some servers take for the same,
/// and other URLs that some canonicalisation makes the same, are other requests.
#[test]
fn one_signature_is_for_one_url() {
    let url = |rest: &str| format!("https://service.example{rest}");
    for (signed, received) in [
        ("/a%2Fb", "/a/b"),
        ("/a%2Fb", "/a%2fb"),
        ("/%41", "/A"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a", "/a/"),
        ("/a", "/A"),
        ("/a;x", "/a"),
        ("/a?b", "/a?b="),
        ("/a?b=%20", "/a?b=+"),
        ("/a?b=%7E", "/a?b=~"),
        ("/a?b=1&c=2", "/a?c=2&b=1"),
        ("/a?b=1", "/a?b=1&"),
        ("/a?b=1", "/a?b=1&b=2"),
        ("/a?b", "/a%3Fb"),
    ] {
        for components in
            ["\"@method\" \"@target-uri\"", "\"@method\" \"@authority\" \"@path\" \"@query\""]
        {
            let input = Input { components, ..Input::good() }.text();
            for (from, to) in [(signed, received), (received, signed)] {
                let message = Message { url: url(from), ..Message::get() }.signed_as(&input);
                let key = verifying(&key(KeyType::Ed25519));
                assert_eq!(message.judge(&Profile::onceguard(), &key), Ok(()));
                let other = Message { url: url(to), ..message };
                let result = other.judge(&Profile::onceguard(), &key);
                assert_eq!(code(&result), "signature_invalid", "{from} as {to}");
            }
        }
    }
}

/// The RFC gives an absent and an empty query the same `@query` (section 2.2.7); `@target-uri`
/// tells them apart.
#[test]
fn an_empty_query_is_not_an_absent_one() {
    let key = verifying(&key(KeyType::Ed25519));
    for (signed, received) in [
        ("https://service.example/a", "https://service.example/a?"),
        ("https://service.example/a?", "https://service.example/a"),
    ] {
        let message =
            Message { url: signed.to_owned(), ..Message::get() }.signed_as(&Input::good().text());
        let other = Message { url: received.to_owned(), ..message };
        assert_eq!(code(&other.judge(&Profile::onceguard(), &key)), "signature_invalid");
    }
}

/// Where the body is not seen, an unsafe method must have signed its digest.
#[test]
fn a_body_that_is_not_seen() {
    let unseen = |method: &str, message: Message| Message {
        method: method.to_owned(),
        body: None,
        ..message
    };
    let key = verifying(&key(KeyType::Ed25519));
    let input = Input::good().text();
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        let message = unseen(method, Message::get()).signed_as(&input);
        assert_eq!(message.judge(&Profile::onceguard(), &key), Ok(()), "{method}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "get", "MADEUP"] {
        let message = unseen(method, Message::get()).signed_as(&input);
        let result = message.judge(&Profile::onceguard(), &key);
        assert_eq!(code(&result), "signature_components_incomplete", "{method}");
    }
    let signed = Message::post().signed(&signer(KeyType::Ed25519, Profile::onceguard()));
    assert_eq!(unseen("POST", signed).judge(&Profile::onceguard(), &key), Ok(()));
    // A DELETE has no content, and no type; its digest is that of nothing.
    let components = "\"@method\" \"@target-uri\" \"content-digest\"";
    let delete = unseen("DELETE", Message::get())
        .with("Content-Digest", &content_digest(b""))
        .signed_as(&Input { components, ..Input::good() }.text());
    assert_eq!(delete.judge(&Profile::onceguard(), &key), Ok(()));
}

/// Where nobody here compares the body, the digest must still be one that somebody can compare.
#[test]
fn a_digest_of_a_body_that_is_not_seen() {
    let key = verifying(&key(KeyType::Ed25519));
    let components = "\"@method\" \"@target-uri\" \"content-digest\"";
    let input = Input { components, ..Input::good() }.text();
    let right = content_digest(b"x");
    let judge = |digests: &[&str]| {
        let message = Message { body: None, ..Message::get() };
        let message = digests.iter().fold(message, |m, digest| m.with("Content-Digest", digest));
        message.signed_as(&input).judge(&Profile::onceguard(), &key)
    };
    assert_eq!(judge(&[&right]), Ok(()));
    assert_eq!(judge(&["md5=:AA==:", &right]), Ok(()));
    for digests in [&["md5=:AA==:"][..], &["sha-256=:AA==:"], &["x"], &[""], &[&right, &right]] {
        assert_eq!(code(&judge(digests)), "signature_digest_mismatch", "{digests:?}");
    }
}

/// Where a field has two members, or parameters, of one name, a parser forgets the first, which
/// another reader of the same field takes.
#[test]
fn a_field_that_says_a_thing_twice_is_not_signed() {
    let key = verifying(&key(KeyType::Ed25519));
    for (component, signed, sent) in [
        ("\"note\";sf", &["a=2"][..], &["a=1, a=2"][..]),
        ("\"note\";sf", &["a=2"], &["a=1", "a=2"]),
        ("\"note\";sf", &["a=2, b=1"], &["a=1, b=1, a=2"]),
        ("\"note\";sf", &["a=1;x=2"], &["a=1;x=1;x=2"]),
        ("\"note\";sf", &["a=(1;x=2)"], &["a=(1;x=1;x=2)"]),
        ("\"note\";sf", &["a=(1);x=2"], &["a=(1);x=1;x=2"]),
        ("\"note\";sf", &["1, 2;x=2"], &["1, 2;x=1;x=2"]),
        ("\"note\";sf", &["(1 2);x=2"], &["(1 2);x=1;x=2"]),
        ("\"note\";sf", &["a/b;x=2"], &["a/b;x=1;x=2"]),
        ("\"note\";key=\"a\"", &["a=2"], &["a=1, a=2"]),
        ("\"note\";key=\"b\"", &["a=2, b=1"], &["a=1, a=2, b=1"]),
    ] {
        let components = format!("\"@method\" \"@target-uri\" {component}");
        let input = Input { components: &components, ..Input::good() }.text();
        let with = |lines: &[&str]| lines.iter().fold(Message::get(), |m, l| m.with("Note", l));
        let message = with(signed).signed_as(&input);
        assert_eq!(message.judge(&Profile::onceguard(), &key), Ok(()), "{signed:?}");
        let message = sent.iter().fold(message.without("Note"), |m, line| m.with("Note", line));
        let result = message.judge(&Profile::onceguard(), &key);
        assert_eq!(code(&result), "signature_invalid", "{sent:?}");
    }
}

/// However the keyid is spelled, the signer is one DID.
#[test]
fn a_fragment_makes_no_other_signer() {
    let did = key_id(&key(KeyType::Ed25519)).to_string();
    let (_, fragment) = did.split_once("did:key:").unwrap();
    for keyid in [did.clone(), format!("{did}#{fragment}"), format!("{did}#other")] {
        let input = Input { keyid: Some(keyid), ..Input::good() };
        let message = Message::get().signed_as(&input.text());
        message.as_request(|request| {
            let profile = Profile::onceguard();
            let checked = check(request, &profile, now()).unwrap();
            assert_eq!(checked.key_id().did().as_str(), did);
        });
    }
}

/// A line feed in a value would let it pass for a component of its own.
#[test]
fn a_value_cannot_forge_a_component() {
    let components = "\"@method\" \"@target-uri\" \"note\"";
    let input = Input { components, ..Input::good() }.text();
    for note in ["x\n\"@path\": /admin", "x\r\"@path\": /admin", "x\u{0}", "ü"] {
        let message = Message::get().with("Note", note).with_signature(&input, &[1; 64]);
        let result = message.judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)));
        assert!(matches!(result, Err(Refused::Invalid(NotVerified::NoBase(_)))), "{note:?}");
    }
}

#[test]
fn a_signer_refuses_what_no_verifier_would_accept() {
    use onceguard::signatures::CannotSign;

    let agent = signer(KeyType::Ed25519, Profile::onceguard());
    let sign = |message: &Message| {
        message.as_request(|request| agent.sign(request, &nonce(), now())).map(|_| ())
    };
    let signed = Message::get().signed(&agent);
    assert_eq!(sign(&signed), Err(CannotSign::AlreadySigned));
    let untyped = Message::post().without("Content-Type");
    assert!(matches!(sign(&untyped), Err(CannotSign::NoBase(_))));
    let unseen = Message { body: None, ..Message::post() };
    assert_eq!(sign(&unseen), Err(CannotSign::BodyUnseen));
    let wrong = Message::post().with("Content-Digest", &content_digest(b"other"));
    assert!(matches!(sign(&wrong), Err(CannotSign::Digest(_))));
    let short = onceguard::domain::Nonce::parse("short").unwrap();
    let refused = Message::get().as_request(|request| agent.sign(request, &short, now()));
    assert!(matches!(refused, Err(CannotSign::ShortNonce { min: 16, .. })));
    let sage = signer(KeyType::P256, Profile::sage());
    let refused = Message::get().as_request(|request| sage.sign(request, &nonce(), now()));
    assert!(matches!(refused, Err(CannotSign::KeyType { .. })));
    // Signing what has the right digest adds none.
    let digest = content_digest(Message::post().body.as_deref().unwrap());
    let fields = Message::post()
        .with("Content-Digest", &digest)
        .as_request(|request| agent.sign(request, &nonce(), now() + seconds(1)))
        .unwrap();
    assert_eq!(fields.content_digest, None);
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", signer(KeyType::Secp256k1, Profile::onceguard()));
    assert!(shown.contains("SigningKey"), "{shown}");
    for secret in ["7, 7", "0707", "scalar", "secret_scalar"] {
        assert!(!shown.to_lowercase().contains(secret), "{shown}");
    }
}
