//! The order of checks: one test for each step and code, and for every two steps that the earlier
//! one names the refusal.

use onceguard::domain::{Code, KeyType};
use onceguard::signatures::{
    AlgorithmNotAllowed, IncompleteParameters, Malformed, OutsideWindow, Profile, Refused,
    TagMismatch,
};

use crate::messages::{Input, Message, key, now, seconds, signer, verifying};

fn judge(message: &Message) -> Result<(), Refused> {
    message.judge(&Profile::onceguard(), &verifying(&key(KeyType::Ed25519)))
}

fn judge_input<'a>(change: impl FnOnce(&mut Input<'a>)) -> Result<(), Refused> {
    let mut input = Input::good();
    change(&mut input);
    judge(&Message::get().signed_as(&input.text()))
}

/// A change to what is signed.
type Change = fn(&mut Input<'_>);

/// The code, and the number of the step it belongs to.
fn refused(result: Result<(), Refused>) -> (&'static str, u8) {
    let refused = result.expect_err("it should be refused");
    (Code::from(&refused).as_str(), refused.step())
}

#[test]
fn a_right_signature_is_accepted() {
    assert_eq!(judge_input(|_| {}), Ok(()));
    let agent = signer(KeyType::Ed25519, Profile::onceguard());
    assert_eq!(judge(&Message::get().signed(&agent)), Ok(()));
    assert_eq!(judge(&Message::post().signed(&agent)), Ok(()));
}

#[test]
fn step_1_an_unsigned_request() {
    assert_eq!(judge(&Message::get()), Err(Refused::Required));
    assert_eq!(refused(judge(&Message::get())), ("signature_required", 1));
}

#[test]
fn step_1_one_field_without_the_other() {
    let signed = Message::get().signed_as(&Input::good().text());
    for field in ["Signature", "Signature-Input"] {
        let alone = judge(&signed.clone().without(field));
        assert!(
            matches!(alone, Err(Refused::Malformed(Malformed::Alone { missing, .. })) if missing == field)
        );
        assert_eq!(refused(alone), ("signature_malformed", 1));
    }
}

#[test]
fn step_1_fields_that_cannot_be_read() {
    let good = Input::good().text();
    let long = format!("sig={good};x=\"{}\"", "x".repeat(8192));
    let many_components = format!("sig=({}){good}", "\"a\" ".repeat(65));
    let many_signatures = (0..9).map(|at| format!("s{at}={good}")).collect::<Vec<_>>().join(", ");
    let many_parameters =
        format!("sig={good}{}", (0..12).map(|at| format!(";x{at}")).collect::<Vec<_>>().concat());
    for input in [
        "",
        "sig",
        "sig=1",
        "sig=(\"@method\"",
        "sig=(@method)",
        "sig=(\"a\" 1)",
        "sig=(\"a\");created=1.5",
        "sig=(\"a\");created=\"1\"",
        "sig=(\"a\");nonce=1",
        "sig=(\"a\");keyid=:AA==:",
        "sig=(\"a\");tag=onceguard",
        "sig=(\"a\");created=1;created=2",
        "sig=(\"a\";sf;sf)",
        "sig=(\"a\"), sig=(\"a\")",
        "other=(\"a\")",
        "sig=(\"a\"),",
        "SIG=(\"a\")",
        "sig=(\"ü\")",
        &format!("sig={good}, other={good}"),
        &long,
        &many_components,
        &many_signatures,
        &many_parameters,
    ] {
        let message = Message::get().with("Signature-Input", input).with("Signature", "sig=:AA==:");
        assert_eq!(refused(judge(&message)), ("signature_malformed", 1), "{input}");
    }
    for signature in [
        "",
        "sig",
        "sig=AA==",
        "sig=\"AA==\"",
        "sig=(:AA==:)",
        "sig=:A:",
        "sig=:A!A=:",
        "other=:AA==:",
        "sig=:AA==:, other=:AA==:",
        "sig=:AA==:, sig=:AA==:",
        &format!("sig=:{}:", "A".repeat(8192)),
    ] {
        let message = Message::get()
            .with("Signature-Input", &format!("sig={good}"))
            .with("Signature", signature);
        assert_eq!(refused(judge(&message)), ("signature_malformed", 1), "{signature}");
    }
    let bytes = Message {
        headers: vec![
            ("Signature-Input".to_owned(), vec![0xff, 0, b'=']),
            ("Signature".to_owned(), b"sig=:AA==:".to_vec()),
        ],
        ..Message::get()
    };
    assert_eq!(refused(judge(&bytes)), ("signature_malformed", 1));
}

/// Of two values under one label, a reader that takes the first and one that takes the last would
/// see different signatures: the refusal says so.
#[test]
fn step_1_what_is_given_twice_is_named() {
    let good = Input::good().text();
    for (input, signature, twice) in [
        (format!("sig={good}, sig={good}"), "sig=:AA==:", "the label \"sig\" is given twice"),
        (format!("sig={good}"), "sig=:AA==:, sig=:AA==:", "the label \"sig\" is given twice"),
        (format!("sig={good};tag=\"x\""), "sig=:AA==:", "the parameter \"tag\" is given twice"),
    ] {
        let message = Message::get().with("Signature-Input", &input).with("Signature", signature);
        let refused = judge(&message).unwrap_err().to_string();
        assert!(refused.contains(twice), "{refused}");
    }
}

#[test]
fn step_2_no_signature_has_the_tag() {
    for tag in [None, Some("other"), Some("Onceguard")] {
        let result = judge_input(|input| input.tag = tag);
        assert_eq!(refused(result), ("signature_tag_invalid", 2));
    }
}

#[test]
fn step_2_two_signatures_have_the_tag() {
    let good = Input::good().text();
    let message = Message::get()
        .with("Signature-Input", &format!("a={good}, b={good}"))
        .with("Signature", "a=:AA==:, b=:AA==:");
    let result = judge(&message);
    let found = TagMismatch::Tagged { tag: "onceguard".to_owned(), found: 2 };
    assert_eq!(result, Err(Refused::Tag(found)));
    assert_eq!(refused(result), ("signature_tag_invalid", 2));
}

/// A signature of somebody else's is no reason to refuse, even of a kind that we do not know.
#[test]
fn step_2_other_signatures_are_ignored() {
    let signed = Message::get().signed_as(&Input::good().text());
    let both = signed
        .edit("Signature-Input", |value| {
            format!("proxy=(\"@status\";req \"@new\");created=1;tag=\"ttrp\", {value}")
        })
        .edit("Signature", |value| format!("{value}, proxy=:AAAA:"));
    assert_eq!(judge(&both), Ok(()));
}

#[test]
fn step_3_missing_parameters() {
    let cases: [(&str, Change); 4] = [
        ("created", |input| input.created = None),
        ("expires", |input| input.expires = None),
        ("nonce", |input| input.nonce = None),
        ("keyid", |input| input.keyid = None),
    ];
    for (name, change) in cases {
        let result = judge_input(change);
        assert_eq!(result, Err(Refused::Parameters(IncompleteParameters::Missing(name))));
        assert_eq!(refused(result), ("signature_params_incomplete", 3));
    }
    let mut profile = Profile::onceguard();
    profile.alg_required = true;
    let message = Message::get().signed_as(&Input::good().text());
    let result = message.judge(&profile, &verifying(&key(KeyType::Ed25519)));
    assert_eq!(result, Err(Refused::Parameters(IncompleteParameters::Missing("alg"))));
}

#[test]
fn step_3_unfit_parameters() {
    let long = "x".repeat(256);
    for nonce in ["", "0123456789abcde", "0123456789 abcdef", &long] {
        let result = judge_input(|input| input.nonce = Some(nonce));
        assert_eq!(refused(result), ("signature_params_incomplete", 3), "{nonce}");
    }
    let result = judge_input(|input| input.keyid = Some(String::new()));
    assert_eq!(refused(result), ("signature_params_incomplete", 3));
}

#[test]
fn step_4_algorithms_that_are_not_allowed() {
    for alg in ["", "rsa-pss-sha512", "hmac-sha256", "ES256K", "es256k", "Ed25519", "none"] {
        let result = judge_input(|input| input.alg = Some(alg));
        assert_eq!(result, Err(Refused::Algorithm(AlgorithmNotAllowed::Stated(alg.to_owned()))));
        assert_eq!(refused(result), ("signature_alg_not_allowed", 4));
    }
    assert_eq!(judge_input(|input| input.alg = Some("ed25519")), Ok(()));
    // Allowed, but not for this key.
    let result = judge_input(|input| input.alg = Some("ecdsa-p256-sha256"));
    assert_eq!(refused(result), ("signature_alg_not_allowed", 4));
    // A key of a type that the profile has no algorithm for.
    let mut profile = Profile::onceguard();
    profile.algorithms.remove(0);
    let message = Message::get().signed_as(&Input::good().text());
    let result = message.judge(&profile, &verifying(&key(KeyType::Ed25519)));
    let no_algorithm = AlgorithmNotAllowed::KeyType(KeyType::Ed25519);
    assert_eq!(result, Err(Refused::Algorithm(no_algorithm)));
}

#[test]
fn step_5_the_window() {
    let at = |created: i64, expires: i64| {
        judge_input(|input| {
            input.created = Some(now().timestamp() + created);
            input.expires = Some(now().timestamp() + expires);
        })
    };
    for (created, expires) in [(0, 1), (0, 300), (60, 360), (-360, -60), (-300, 0), (-1, 1)] {
        assert_eq!(at(created, expires), Ok(()), "{created} {expires}");
    }
    for (created, expires, problem) in [
        (0, 0, OutsideWindow::Backwards),
        (1, 0, OutsideWindow::Backwards),
        (61, 62, OutsideWindow::Future),
        (-361, -61, OutsideWindow::Expired),
        (0, 301, OutsideWindow::TooLong(300)),
        (-3600, 3600, OutsideWindow::TooLong(300)),
    ] {
        let result = at(created, expires);
        assert_eq!(result, Err(Refused::Window(problem)), "{created} {expires}");
        assert_eq!(refused(result), ("signature_window_invalid", 5));
    }
    for extreme in [-999_999_999_999_999, 999_999_999_999_999] {
        let result = judge_at_extreme(extreme);
        assert_eq!(refused(result), ("signature_window_invalid", 5));
    }
}

fn judge_at_extreme(time: i64) -> Result<(), Refused> {
    let input = Input { created: Some(time), expires: Some(time), ..Input::good() };
    judge(&Message::get().with_signature(&input.text(), &[0; 64]))
}

#[test]
fn step_6_what_must_be_covered() {
    for components in [
        "",
        "\"@method\"",
        "\"@target-uri\"",
        "\"@method\" \"@path\" \"@query\"",
        "\"@method\" \"@authority\" \"@path\"",
        "\"@method\" \"@authority\" \"@query\"",
        "\"@method\" \"@request-target\"",
        "\"@method\" \"@authority\" \"@path\" \"@query-param\";name=\"id\"",
    ] {
        let result = judge_input(|input| input.components = components);
        assert_eq!(refused(result), ("signature_components_incomplete", 6), "{components}");
    }
    for unknown in
        ["\"@method\"", "\"@unknown\"", "\"@status\"", "\"host\";req", "\"host\";tr", "\"Host\""]
    {
        let components = format!("\"@method\" \"@target-uri\" {unknown}");
        let input = Input { components: &components, ..Input::good() };
        let message = Message::get().with_signature(&input.text(), &[0; 64]);
        assert_eq!(refused(judge(&message)), ("signature_components_incomplete", 6), "{unknown}");
    }
    let parts = "\"@method\" \"@authority\" \"@path\" \"@query\"";
    assert_eq!(judge_input(|input| input.components = parts), Ok(()));
}

#[test]
fn step_6_the_body_and_the_session_must_be_covered() {
    let digest = "sha-256=:Hp5CmeoNMuM8kjo0eqGSHDcBsIMrbyDnNbHJnGgiz20=:";
    let post = Message::post().with("Content-Digest", digest);
    let with_session = Message::get().with("X-Session-Id", "s");
    // A digest without a body is still a statement that nobody has signed.
    let with_digest = Message::get().with("Content-Digest", digest);
    for (message, components) in [
        (&post, "\"@method\" \"@target-uri\""),
        (&post, "\"@method\" \"@target-uri\" \"content-digest\""),
        (&post, "\"@method\" \"@target-uri\" \"content-type\""),
        (&post, "\"@method\" \"@target-uri\" \"content-type\" \"content-digest\";key=\"sha-256\""),
        (&with_session, "\"@method\" \"@target-uri\""),
        (&with_digest, "\"@method\" \"@target-uri\""),
    ] {
        let input = Input { components, ..Input::good() };
        let result = judge(&message.clone().signed_as(&input.text()));
        assert_eq!(refused(result), ("signature_components_incomplete", 6), "{components}");
    }
}

#[test]
fn step_7_the_keyid_is_no_did_url() {
    for keyid in ["key-1", "https://a.example/key", "did:web:a/b#c", "did:web:a#"] {
        let result = judge_input(|input| input.keyid = Some(keyid.to_owned()));
        assert_eq!(refused(result), ("signature_key_unknown", 7), "{keyid}");
    }
}

#[test]
fn step_10_another_key_or_another_request() {
    let signed = Message::get().signed_as(&Input::good().text());
    let other = onceguard::signatures::SigningKey::from_bytes(KeyType::Ed25519, &[8; 32]).unwrap();
    let result = signed.judge(&Profile::onceguard(), &verifying(&other));
    assert_eq!(refused(result), ("signature_invalid", 10));

    let mut other_method = signed.clone();
    other_method.method = "HEAD".to_owned();
    assert_eq!(refused(judge(&other_method)), ("signature_invalid", 10));
}

#[test]
fn step_10_a_covered_field_that_is_not_there() {
    let input = Input { components: "\"@method\" \"@target-uri\" \"host\"", ..Input::good() };
    let signed = Message::get().signed_as(&input.text());
    assert_eq!(judge(&signed), Ok(()));
    assert_eq!(refused(judge(&signed.without("Host"))), ("signature_invalid", 10));
}

#[test]
fn step_11_another_body() {
    let signed = Message::post().signed(&signer(KeyType::Ed25519, Profile::onceguard()));
    for body in [b"{\"amount\": 2}".as_slice(), b"", b"{\"amount\": 1} "] {
        let other = Message { body: Some(body.to_vec()), ..signed.clone() };
        assert_eq!(refused(judge(&other)), ("signature_digest_mismatch", 11));
    }
}

/// What makes a message fail one step, and pass all others.
type Fault = (u8, Change, fn(Message) -> Message);

/// For every two steps, a message that fails both gets the earlier one's code.
#[test]
fn the_earlier_of_two_faults_is_named() {
    const KEEP: Change = |_| {};
    const SAME: fn(Message) -> Message = |message| message;
    let faults: [Fault; 9] = [
        (1, KEEP, |message| message.edit("Signature", |value| value + ", x")),
        (2, |input| input.tag = Some("other"), SAME),
        (3, |input| input.nonce = Some("short"), SAME),
        (4, |input| input.alg = Some("none"), SAME),
        (5, |input| input.expires = Some(now().timestamp() + 301), SAME),
        (6, |input| input.components = "\"@method\" \"content-type\" \"content-digest\"", SAME),
        (7, |input| input.keyid = Some("key-1".to_owned()), SAME),
        (10, KEEP, |mut message| {
            message.method = "PUT".to_owned();
            message
        }),
        (11, KEEP, |mut message| {
            message.body = Some(b"other".to_vec());
            message
        }),
    ];
    let post = || {
        let body = Message::post().body.unwrap();
        Message::post().with("Content-Digest", &onceguard::signatures::content_digest(&body))
    };
    for (at, (step, change, damage)) in faults.iter().enumerate() {
        for (later, change_too, damage_too) in &faults[at..] {
            let mut input = Input {
                components: "\"@method\" \"@target-uri\" \"content-type\" \"content-digest\"",
                ..Input::good()
            };
            change(&mut input);
            change_too(&mut input);
            let message = damage_too(damage(post().signed_as(&input.text())));
            assert_eq!(refused(judge(&message)).1, *step, "steps {step} and {later}");
        }
    }
}

#[test]
fn what_a_signer_states_is_handed_on() {
    let message = Message::get().signed(&signer(KeyType::P256, Profile::onceguard()));
    message.as_request(|request| {
        let profile = Profile::onceguard();
        let checked = onceguard::signatures::check(request, &profile, now()).unwrap();
        assert_eq!(checked.nonce().as_str(), crate::messages::NONCE);
        assert_eq!((checked.created(), checked.expires()), (now(), now() + seconds(300)));
        assert_eq!(checked.keep_nonce_until(&[]), now() + seconds(360));
        let covered: Vec<_> =
            checked.covered().iter().map(|covered| covered.identifier.as_str()).collect();
        assert_eq!(covered, ["\"@method\"", "\"@target-uri\""]);
        assert_eq!(checked.key_id().did().method(), "key");
        let key = verifying(&key(KeyType::P256));
        let bound = checked.with_key(&key).unwrap();
        assert_eq!(bound.algorithm().as_str(), "ecdsa-p256-sha256");
        assert_eq!(bound.verify(), Ok(()));
    });
}
