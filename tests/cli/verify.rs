//! `onceguard verify`: each thing that can be wrong with a request is named, and explained.

use std::io::Write as _;
use std::process::Stdio;

use rstest::rstest;
use serde_json::{Value, json};

use crate::assert_failed;
use crate::sign::Agent;
use crate::support::Finished;

const POST: [&str; 4] =
    ["POST", "https://a.example/v1/x?a=1", "--content-type", "application/json"];
const BODY: &[u8] = b"{\"a\": 1}";

/// Judges a request, written to a file.
fn verify(agent: &Agent, request: &[u8], more: &[&str]) -> Finished {
    std::fs::write(agent.file("request"), request).unwrap();
    agent.run(&[&["verify", "request"], more].concat())
}

fn judged(agent: &Agent, request: &[u8], more: &[&str]) -> Value {
    let finished = verify(agent, request, &[more, &["--json"]].concat());
    let judged: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(finished.code() == 0, judged["valid"] == true, "{finished:?}");
    judged
}

/// The outcome of each check.
fn outcomes(judged: &Value) -> Vec<&str> {
    judged["checks"].as_array().unwrap().iter().map(|it| it["outcome"].as_str().unwrap()).collect()
}

fn replaced(request: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(request).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replace(from, to).into_bytes()
}

#[rstest]
#[case("ed25519", "onceguard", "ed25519")]
#[case("secp256k1", "onceguard", "ES256K")]
#[case("p256", "onceguard", "ecdsa-p256-sha256")]
#[case("ed25519", "sage", "ed25519")]
#[case("secp256k1", "sage", "es256k")]
#[tokio::test]
async fn what_sign_signs_is_valid(
    #[case] key_type: &str,
    #[case] profile: &str,
    #[case] alg: &str,
) {
    let agent = Agent::with(key_type).await;
    let by_profile = ["--profile", profile];
    let sent = agent.send(&[&POST[..], &by_profile].concat(), BODY);
    let verdict = judged(&agent, &sent, &by_profile);
    assert_eq!(verdict["valid"], true, "{verdict:#}");
    assert_eq!(verdict["did"], agent.did);
    assert_eq!(verdict["alg"], alg);
    assert_eq!(verdict["url"], POST[1]);
    assert_eq!(verdict["problem"], Value::Null);
    let covered =
        json!(["\"@method\"", "\"@target-uri\"", "\"content-digest\"", "\"content-type\""]);
    assert_eq!(verdict["covered"], covered);
    let service = ["not_checked"; 2];
    let all = [&["passed"; 7][..], &service, &["passed"; 2], &service].concat();
    assert_eq!(outcomes(&verdict), all);

    let printed = verify(&agent, &sent, &by_profile).success();
    assert!(printed.contains("\nvalid: ") && printed.contains("running service"), "{printed}");

    let other = if profile == "sage" { "onceguard" } else { "sage" };
    let crossed = judged(&agent, &sent, &["--profile", other]);
    assert_eq!(crossed["valid"], key_type == "ed25519" && other == "sage", "{crossed:#}");
}

/// Lines may have lost their carriage returns, as in a file that was typed.
#[tokio::test]
async fn line_feeds_alone_will_do_and_the_file_may_end_later() {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let typed = [&replaced(&sent, "\r\n", "\n")[..], b"\n"].concat();
    let verdict = judged(&agent, &typed, &[]);
    assert_eq!(verdict["valid"], true, "{verdict:#}");
    assert!(verdict["notes"][0].as_str().unwrap().contains("1 more at the end"), "{verdict:#}");

    let no_length = replaced(&sent, "Content-Length: 8\r\n", "");
    let verdict = judged(&agent, &no_length, &[]);
    assert_eq!(verdict["valid"], true, "{verdict:#}");
    assert!(verdict["notes"][0].as_str().unwrap().contains("all 8 bytes"), "{verdict:#}");

    let whole_url = replaced(&sent, "POST /v1", "POST https://a.example/v1");
    assert_eq!(judged(&agent, &whole_url, &["--url-scheme", "http"])["valid"], true);
}

#[tokio::test]
async fn standard_input_is_read() {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let mut command = agent.home.command(&["verify", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&sent).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

/// Each covered part that is changed after signing, and each way in which a signature can lack
/// something: its check, its code, and a word of the help.
#[rstest]
#[case::method(("POST /", "PUT /"), 10, "signature_invalid", "line by line")]
#[case::path(("/v1/x", "/v1/y"), 10, "signature_invalid", "line by line")]
#[case::query(("?a=1", "?a=2"), 10, "signature_invalid", "line by line")]
#[case::host(("Host: a.", "Host: b."), 10, "signature_invalid", "line by line")]
#[case::media_type(("application/json", "text/plain"), 10, "signature_invalid", "line by line")]
#[case::digest(("sha-256=:", "sha-512=:"), 10, "signature_invalid", "line by line")]
#[case::a_parameter((";tag=", ";x=1;tag="), 10, "signature_invalid", "line by line")]
#[case::header_lost(("Content-Type: application/json\r\n", ""), 10, "signature_invalid", "on the way")]
#[case::body(("\r\n\r\n{\"a\": 1", "\r\n\r\n{\"a\": 2"), 11, "signature_digest_mismatch", "line end")]
#[case::unsigned(("Signature", "X"), 1, "signature_required", "onceguard sign")]
#[case::half_signed(("\r\nSignature: ", "\r\nX: "), 1, "signature_malformed", "removed")]
#[case::no_structured_field(("sig1=(", "sig1=["), 1, "signature_malformed", "Signature-Input: ")]
#[case::other_label(("Signature: sig1", "Signature: sig2"), 1, "signature_malformed", "same labels")]
#[case::tag(("tag=\"onceguard\"", "tag=\"other\""), 2, "signature_tag_invalid", "--profile")]
#[case::no_nonce((";nonce=", ";x="), 3, "signature_params_incomplete", ";nonce=")]
#[case::no_expires((";expires=", ";x="), 3, "signature_params_incomplete", "300 seconds")]
#[case::no_keyid((";keyid=", ";x="), 3, "signature_params_incomplete", ";keyid=")]
#[case::unknown_alg((";alg=\"ed25519\"", ";alg=\"rsa\""), 4, "signature_alg_not_allowed", "Ed25519 key")]
#[case::other_alg((";alg=\"ed25519\"", ";alg=\"ecdsa-p256-sha256\""), 4, "signature_alg_not_allowed", "ed25519")]
#[case::endless((";expires=", ";expires=9"), 5, "signature_window_invalid", "earlier expires")]
#[case::digest_uncovered((" \"content-digest\"", ""), 6, "signature_components_incomplete", "on the way")]
#[case::twice(("\"@method\"", "\"@method\" \"@method\""), 6, "signature_components_incomplete", "once")]
#[case::unknown_component(("\"@method\"", "\"@method\" \"@x\""), 6, "signature_components_incomplete", "take it out")]
#[case::no_did(("keyid=\"did:key:", "keyid=\"key:"), 7, "signature_key_unknown", "must be a DID")]
#[case::other_fragment(("#z6Mk", "#z6Mj"), 7, "signature_key_unknown", "fragment")]
#[case::no_key(("did:key:z6Mk", "did:key:z0Mk"), 7, "signature_key_unknown", "key did")]
#[case::other_method(("did:key:", "did:web:"), 7, "signature_key_unavailable", "--key")]
#[tokio::test]
async fn each_flaw_is_named_and_explained(
    #[case] (from, to): (&str, &str),
    #[case] step: usize,
    #[case] code: &str,
    #[case] help: &str,
) {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let flawed = replaced(&sent, from, to);
    let verdict = judged(&agent, &flawed, &[]);
    let problem = &verdict["problem"];
    assert_eq!(problem["code"], code, "{verdict:#}");
    assert_eq!(problem["step"], step, "{verdict:#}");
    assert!(problem["help"].as_str().unwrap().contains(help), "{verdict:#}");
    for (number, outcome) in (1..).zip(outcomes(&verdict)) {
        let after_key = step == 4 && problem["detail"].as_str().unwrap().contains("key of type");
        let expected = match number {
            _ if number == step => "failed",
            8 | 9 | 12 | 13 => "not_checked",
            5..=7 if after_key => "passed",
            _ if number < step => "passed",
            _ => "not_reached",
        };
        assert_eq!(outcome, expected, "check {number}: {verdict:#}");
    }

    let finished = verify(&agent, &flawed, &[]);
    assert_eq!(finished.code(), 1);
    assert_eq!(finished.stderr, format!("onceguard: refused: {code}\n"));
    let printed = &finished.stdout;
    assert!(printed.contains(&format!("\n{step:3}  FAIL  ")), "{printed}");
    assert!(printed.contains(&format!("\nerror[{code}]: ")), "{printed}");
    assert!(printed.contains("\n  help: "), "{printed}");
}

#[tokio::test]
async fn the_signature_base_is_shown_when_the_signature_is_invalid() {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let flawed = replaced(&sent, "?a=1", "?a=2");
    let base =
        judged(&agent, &flawed, &[])["problem"]["signature_base"].as_str().unwrap().to_owned();
    assert!(
        base.starts_with("\"@method\": POST\n\"@target-uri\": https://a.example/v1/x?a=2\n"),
        "{base}"
    );
    let printed = verify(&agent, &flawed, &[]).stdout;
    for line in base.lines() {
        assert!(printed.contains(&format!("\n   | {line}\n")), "{printed}");
    }
}

#[tokio::test]
async fn the_other_scheme_is_recognised() {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&["GET", "http://a.example/"], b"");
    let verdict = judged(&agent, &sent, &[]);
    assert_eq!(verdict["problem"]["code"], "signature_invalid");
    assert!(
        verdict["problem"]["help"].as_str().unwrap().contains("--url-scheme http;"),
        "{verdict:#}"
    );
    assert_eq!(judged(&agent, &sent, &["--url-scheme", "http"])["valid"], true);
}

#[tokio::test]
async fn a_request_is_judged_as_of_a_time() {
    let agent = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let created = judged(&agent, &sent, &[])["created"].as_str().unwrap().to_owned();
    let created: chrono::DateTime<chrono::Utc> = created.parse().unwrap();
    for (seconds, valid, word) in
        [(-61, false, "future"), (-60, true, ""), (360, true, ""), (361, false, "expired")]
    {
        let at = created + chrono::Duration::seconds(seconds);
        let seconds = at.timestamp().to_string();
        for at in [at.to_rfc3339(), seconds.clone()] {
            let verdict = judged(&agent, &sent, &["--at", &at]);
            assert_eq!(verdict["valid"], valid, "{verdict:#}");
            if !valid {
                assert_eq!(verdict["problem"]["code"], "signature_window_invalid");
                assert!(verdict["problem"]["detail"].as_str().unwrap().contains(word));
                assert!(verdict["problem"]["help"].as_str().unwrap().contains(&seconds));
            }
        }
    }
    assert_failed(&agent.run(&["verify", "request", "--at", "noon"]), 2, &["2026-11-20T12:00:00Z"]);
}

#[tokio::test]
async fn a_key_can_be_given() {
    let agent = Agent::with("p256").await;
    let other = Agent::with("p256").await;
    let keyid = ["--keyid", "did:web:a.example#k"];
    let sent = agent.send(&[&POST[..], &keyid].concat(), BODY);
    let verdict = judged(&agent, &sent, &["--key", "agent.key"]);
    assert_eq!((&verdict["valid"], &verdict["did"]), (&json!(true), &json!("did:web:a.example")));
    assert_eq!(judged(&agent, &sent, &["--key", &agent.did])["valid"], true);
    let refused = judged(&agent, &sent, &["--key", &other.did]);
    assert_eq!(refused["problem"]["code"], "signature_invalid");

    // A did:key says its key; no other is taken for it.
    let sent = agent.send(&POST, BODY);
    assert_eq!(judged(&agent, &sent, &["--key", &agent.did])["valid"], true);
    let refused = judged(&agent, &sent, &["--key", &other.did]);
    assert_eq!(refused["problem"]["code"], "signature_key_unknown");

    for (key, code, word) in
        [("did:web:a", 2, "PEM"), ("did:key:z", 2, "did:key:z"), ("none", 1, "none")]
    {
        assert_failed(&agent.run(&["verify", "request", "--key", key]), code, &[word]);
    }
}

#[rstest]
#[case("", "blank line")]
#[case("GET / HTTP/1.1\r\nHost: a\r\n", "blank line")]
#[case("GET / HTTP/1.1\r\nHost: a\r\nno header\r\n\r\n", "line 3: ")]
#[case("GET /\r\n\r\n", "line 1: ")]
#[case("GET / HTTP/1.1\r\n\r\n", "no Host")]
#[case("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "Host twice")]
#[case("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "must have a host")]
#[case("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "start with '/'")]
#[case("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", "only 3 follow")]
#[case("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "not a number")]
#[case("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunks")]
#[tokio::test]
async fn what_is_no_request_is_refused_with_advice(#[case] request: &str, #[case] word: &str) {
    let agent = Agent::with("ed25519").await;
    let refused = verify(&agent, request.as_bytes(), &[]);
    assert_failed(&refused, 1, &["request is not an HTTP request: ", word]);
}

#[tokio::test]
async fn a_terminal_gets_nothing_to_obey() {
    let agent = Agent::with("ed25519").await;
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nSignature-Input: \u{9b}31mred\r\nSignature: x\r\n\r\n";
    let refused = verify(&agent, request.as_bytes(), &[]);
    assert!(refused.stdout.contains("\\u{9b}31mred") && !refused.stdout.contains('\u{9b}'));
}

/// RFC 9421, section B.2.6: no profile of ours takes it, but what it is over can be shown.
const RFC_EXAMPLE: &str = "POST /foo?param=Value&Pet=dog HTTP/1.1\r\n\
    Host: example.com\r\n\
    Date: Tue, 20 Apr 2021 02:07:55 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 18\r\n\
    Signature-Input: sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
    \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"\r\n\
    Signature: sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:\r\n\
    \r\n{\"hello\": \"world\"}";
const RFC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n-----END PUBLIC KEY-----\n";

#[tokio::test]
async fn what_a_refused_signature_is_over_is_shown() {
    let agent = Agent::with("ed25519").await;
    std::fs::write(agent.file("rfc.pem"), RFC_KEY).unwrap();
    for (key, is_the_keys, word) in [
        (&["--key", "rfc.pem"][..], json!(true), "the key at hand made the signature over it"),
        (
            &["--key", &agent.did],
            json!(false),
            "the key at hand did not make the signature over it",
        ),
        (&[], Value::Null, "pass --key to learn"),
    ] {
        let problem = &judged(&agent, RFC_EXAMPLE.as_bytes(), key)["problem"];
        assert_eq!(problem["code"], "signature_tag_invalid");
        assert_eq!(problem["signature_is_the_keys"], is_the_keys);
        let base = problem["signature_base"].as_str().unwrap();
        assert!(base.starts_with("\"date\": Tue, 20 Apr 2021"), "{base}");
        assert!(base.ends_with(";keyid=\"test-key-ed25519\""), "{base}");
        let printed = verify(&agent, RFC_EXAMPLE.as_bytes(), key).stdout;
        assert!(printed.contains(word), "{printed}");
        for line in base.lines() {
            assert!(printed.contains(&format!("\n   | {line}\n")), "{printed}");
        }
    }
    // Of none, or of several, none is meant.
    for request in [
        replaced(RFC_EXAMPLE.as_bytes(), "Signature", "X"),
        replaced(
            &replaced(RFC_EXAMPLE.as_bytes(), "Signature: ", "Signature: a=:AAAA:, "),
            "Signature-Input: ",
            "Signature-Input: a=(), ",
        ),
    ] {
        let problem = &judged(&agent, &request, &[])["problem"];
        assert_eq!(problem["signature_base"], Value::Null, "{problem:#}");
    }
}

/// The service finds no key by such a keyid, whatever key is given here.
#[tokio::test]
async fn a_keyid_that_is_no_did_is_refused_and_its_signature_shown() {
    let agent = Agent::with("ed25519").await;
    let other = Agent::with("ed25519").await;
    let sent = agent.send(&POST, BODY);
    let keyid = format!("keyid=\"{}", agent.did);
    for to in ["keyid=\"test-key", "keyid=\"https://a.example/key"] {
        let flawed = replaced(&sent, &keyid, to);
        for key in [&agent.did, &other.did] {
            let problem = &judged(&agent, &flawed, &["--key", key])["problem"];
            assert_eq!(problem["code"], "signature_key_unknown");
            assert_eq!(problem["step"], 7);
            let base = problem["signature_base"].as_str().unwrap();
            assert!(base.contains(to), "{base}");
            // The keyid is signed, too.
            assert_eq!(problem["signature_is_the_keys"], false);
        }
    }
}

#[tokio::test]
async fn profiles_are_those_of_the_configuration() {
    let agent = Agent::with("ed25519").await;
    let config = "[signatures.profiles.partners]\ntag = \"partners\"\nmax_window_seconds = 60\n";
    std::fs::write(agent.file("config.toml"), config).unwrap();
    let configured = ["--config", "config.toml", "--profile", "partners"];
    let sent = agent.send(&[&POST[..], &configured].concat(), BODY);
    assert!(String::from_utf8_lossy(&sent).contains("tag=\"partners\""));
    let verdict = judged(&agent, &sent, &configured);
    assert_eq!((&verdict["valid"], &verdict["profile"]), (&json!(true), &json!("partners")));
    assert_eq!(judged(&agent, &sent, &[])["problem"]["code"], "signature_tag_invalid");

    for (more, words) in [
        (&["--profile", "partners"][..], ["--profile partners", "onceguard, sage"]),
        (
            &["--config", "config.toml", "--profile", "x"],
            ["--profile x", "onceguard, sage, partners"],
        ),
        (&["--config", "none.toml"], ["none.toml", "none.toml"]),
    ] {
        let refused = agent.run(&[&["verify", "request"], more].concat());
        assert_failed(&refused, 2, &words);
    }
}
