//! Profiles are data: those that are shipped, and one of somebody else's making.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use onceguard::domain::{Code, KeyType, PublicKey, Timestamp};
use onceguard::signatures::{
    Algorithm, Component, Coverage, Profile, VerifyingKey, check, inspect,
};

use crate::messages::{Input, Message, key, key_id, now, seconds, signer, verifying};

#[test]
fn every_profile_accepts_what_its_signer_makes() {
    for profile in [Profile::onceguard(), Profile::sage()] {
        for algorithm in profile.algorithms.clone() {
            let agent = signer(algorithm.key_type(), profile.clone());
            for message in
                [Message::get(), Message::post(), Message::get().with("X-Session-Id", "s")]
            {
                let signed = message.signed(&agent);
                assert_eq!(signed.judge(&profile, &verifying(&agent.key)), Ok(()));
            }
        }
    }
}

/// As SAGE's Go implementation writes it: parameters in its own order, no `expires`, no tag.
#[test]
fn sage_signatures_last_five_minutes_unless_they_say_otherwise() {
    let sage = Profile::sage();
    let keyid = format!("{}#key-1", key_id(&key(KeyType::Ed25519)));
    let input = format!(
        "(\"@method\" \"@target-uri\" \"@authority\");keyid=\"{keyid}\";alg=\"ed25519\";\
         created={};nonce=\"n1\"",
        now().timestamp()
    );
    let message = Message::get().signed_as(&input);
    let key = verifying(&key(KeyType::Ed25519));
    for (after, accepted) in [(0, true), (360, true), (361, false), (-60, true), (-61, false)] {
        let result = message.judge_at(&sage, &key, now() + seconds(after));
        assert_eq!(result.is_ok(), accepted, "{after} s after");
    }
    message.as_request(|request| {
        let checked = check(request, &sage, now()).unwrap();
        assert_eq!(checked.expires(), now() + seconds(300));
        assert_eq!(checked.keep_nonce_until(&[]), now() + seconds(360));
    });
    let stated = Input { expires: Some(now().timestamp() + 10), tag: None, ..Input::good() };
    let message = Message::get().signed_as(&stated.text());
    assert!(message.judge_at(&sage, &key, now() + seconds(70)).is_ok());
    assert!(message.judge_at(&sage, &key, now() + seconds(71)).is_err());
}

/// `es256k` and no `alg` at all are the same to SAGE; ES256K over SHA-256 is not.
#[test]
fn sage_signs_with_keccak() {
    let sage = Profile::sage();
    let agent = signer(KeyType::Secp256k1, sage.clone());
    let signed = Message::get().signed(&agent);
    assert!(signed.header("Signature-Input").contains(";alg=\"es256k\";"));
    assert_eq!(signed.judge(&sage, &verifying(&agent.key)), Ok(()));
}

/// The draft's first example. Nothing in the verifier knows this profile: it is a value. The
/// signature is by the draft's key, but a thumbprint names no DID.
#[test]
fn web_bot_auth_is_data_but_its_key_is_no_dids() {
    let profile = Profile {
        name: "web-bot-auth".to_owned(),
        tag: Some("web-bot-auth".to_owned()),
        algorithms: vec![Algorithm::Ed25519],
        alg_required: false,
        min_nonce_len: 1,
        default_lifetime: None,
        max_window: seconds(86_400),
        skew: seconds(60),
        coverage: Coverage {
            always: vec![vec![vec![Component::Authority], vec![Component::TargetUri]]],
            with_body: vec![],
            when_sent: vec![Component::named("signature-agent").unwrap()],
        },
    };
    let thumbprint = "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U";
    let input = format!(
        "sig1=(\"@authority\");created=1735689600;keyid=\"{thumbprint}\";alg=\"ed25519\";\
         expires=1735693200;nonce=\"gubxywVx7hzbYKatLgzuKDllDAIXAkz41PydU7aOY7vT+Mb3GJNxW0qD4zJ+IO\
         Q1NVtg+BNbTCRUMt1Ojr5BgA==\";tag=\"web-bot-auth\""
    );
    let message = Message { url: "https://example.com/".to_owned(), ..Message::get() }
        .with("Signature-Input", &input)
        .with(
            "Signature",
            "sig1=:uz2SAv+VIemw+Oo890bhYh6Xf5qZdLUgv6/PbiQfCFXcX/vt1A8Pf7OcgL2yUDUYXFtffNpkEr5W6dl\
             dqFrkDg==:",
        );
    let at = Timestamp::from_timestamp(1_735_690_000, 0).unwrap();
    let x = URL_SAFE_NO_PAD.decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").unwrap();
    let key = VerifyingKey::new(&PublicKey::new(KeyType::Ed25519, &x).unwrap()).unwrap();
    message.as_request(|request| {
        let refused = check(request, &profile, at).err().unwrap();
        assert_eq!(Code::from(&refused), Code::SignatureKeyUnknown);
        let inspected = inspect(request, &profile).unwrap();
        assert_eq!(inspected.keyid.as_deref(), Some(thumbprint));
        assert!(inspected.verifies(&key, &profile));
    });
    let agent = message.with("Signature-Agent", "\"https://agent.example\"");
    let refused = agent.judge_at(&profile, &key, at).unwrap_err();
    assert_eq!(Code::from(&refused), Code::SignatureComponentsIncomplete);
}

#[test]
fn components_are_read_by_name() {
    assert_eq!(Component::named("@path"), Ok(Component::Path));
    assert_eq!(Component::named("content-type"), Ok(Component::field("content-type")));
    for name in ["@status", "@query-param", "@other", "Content-Type", ""] {
        assert!(Component::named(name).is_err(), "{name}");
    }
}
