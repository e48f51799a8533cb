//! `onceguard sign`: what it prints is what has to be sent.

use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;

use crate::assert_failed;
use crate::key::new_key;
use crate::support::{Database::Sqlite, Finished, Home};

/// A home with a key in it.
pub(crate) struct Agent {
    pub(crate) home: Home,
    pub(crate) did: String,
}

impl Agent {
    pub(crate) async fn with(key_type: &str) -> Self {
        let home = Home::on(Sqlite).await;
        let did = new_key(&home, key_type, &home.folder().join("agent.key")).await;
        Self { home, did }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.folder().join(name)
    }

    /// Runs `onceguard` in its folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = self.home.command(arguments);
        finished(command.current_dir(self.home.folder()))
    }

    pub(crate) fn sign(&self, arguments: &[&str]) -> Finished {
        self.run(&[&["sign"], arguments, &["--key", "agent.key"]].concat())
    }

    /// Signs a request, and writes it down as it would be on the wire.
    pub(crate) fn send(&self, arguments: &[&str], body: &[u8]) -> Vec<u8> {
        std::fs::write(self.file("body"), body).unwrap();
        let body_arguments: &[&str] = if body.is_empty() { &[] } else { &["--body", "body"] };
        let lines = self.sign(&[arguments, body_arguments].concat()).success();
        let (_, rest) = arguments[1].split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let sent = format!(
            "{} /{path} HTTP/1.1\r\nHost: {host}\r\n{}Content-Length: {}\r\n\r\n",
            arguments[0],
            lines.replace('\n', "\r\n"),
            body.len()
        );
        [sent.as_bytes(), body].concat()
    }
}

fn finished(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The words that a shell makes of a line which begins with `curl`.
fn words_of(line: &str, folder: &Path) -> Vec<String> {
    let script = format!("curl() {{ printf '%s\\0' \"$@\"; }}\n{line}");
    let printed = finished(Command::new("sh").args(["-c", &script]).current_dir(folder)).success();
    printed.split_terminator('\0').map(str::to_owned).collect()
}

/// What curl would send for these words.
fn request_of(words: &[String], folder: &Path) -> Vec<u8> {
    let (mut method, mut headers, mut body, mut url) = ("GET", vec![], vec![], "");
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--path-as-is" | "--globoff" => {}
            "--head" => method = "HEAD",
            "--request" => method = words.next().unwrap(),
            "--header" => headers.push(words.next().unwrap().to_owned()),
            "--data-binary" => {
                let file = words.next().unwrap().strip_prefix('@').unwrap();
                body = std::fs::read(folder.join(file)).unwrap();
            }
            word => url = word,
        }
    }
    let (_, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    if !headers.iter().any(|header| header.starts_with("Host: ")) {
        // As curl writes it.
        let host = host.to_ascii_lowercase();
        headers.push(format!("Host: {}", host.strip_suffix(":80").unwrap_or(&host)));
    }
    headers.push(format!("Content-Length: {}", body.len()));
    let headers: String = headers
        .iter()
        .map(|header| match header.strip_suffix(';') {
            Some(name) => format!("{name}:\r\n"),
            None => format!("{header}\r\n"),
        })
        .collect();
    [format!("{method} {path} HTTP/1.1\r\n{headers}\r\n").as_bytes(), &body].concat()
}

#[rstest]
#[tokio::test]
async fn a_curl_line_survives_the_shell(#[values("ed25519", "secp256k1", "p256")] key_type: &str) {
    let agent = Agent::with(key_type).await;
    let folder = agent.home.folder();
    let body = "it's $(not) a `command`\\\r\n\n";
    std::fs::write(agent.file("a 'b' $c.json"), body).unwrap();
    std::fs::write(agent.file("empty"), "").unwrap();
    let with_body: &[&str] = &["--body", "a 'b' $c.json", "--content-type", "text/plain; a=\"'b\""];
    let session: &[&str] = &["--header", "X-Session-Id: it's; $HOME", "--header", "X-Empty:"];
    for (method, url, more) in [
        ("GET", "http://127.0.0.1:8080/v1/sessions", [].as_slice()),
        ("HEAD", "http://a.example?", &[]),
        ("GET", "http://A.example:80/a/../b/./%41//", session),
        ("POST", "http://[::1]:8080/?x=[1]&y={a,b}'\"&z=$(id)|\\`;!", with_body),
        ("PUT", "http://a.example/", &[with_body, session].concat()),
        ("DELETE", "http://a.example/", &["--body", "empty"]),
        ("X'Y", "http://a.example/", &[]),
    ] {
        let line = agent.sign(&[&[method, url, "--curl"], more].concat()).success();
        assert_eq!(line.lines().count(), 1, "{line}");
        let words = words_of(&line, folder);
        std::fs::write(agent.file("sent"), request_of(&words, folder)).unwrap();
        let verified = agent.run(&["verify", "sent", "--url-scheme", "http"]);
        assert_eq!(verified.code(), 0, "{line}\n{words:?}\n{verified:?}");
    }
}

#[tokio::test]
async fn the_lines_are_all_that_has_to_be_sent() {
    let agent = Agent::with("ed25519").await;
    std::fs::write(agent.file("body"), "{}").unwrap();
    let url = "https://a.example/";
    let printed = agent
        .sign(&[
            "POST",
            url,
            "--body",
            "body",
            "--content-type",
            "a/b",
            "--header",
            "x-session-id: 1",
        ])
        .success();
    let names: Vec<_> = printed.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    let all = ["Content-Type", "x-session-id", "Content-Digest", "Signature-Input", "Signature"];
    assert_eq!(names, all);
    let covered =
        "(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\" \"x-session-id\")";
    assert!(printed.contains(covered), "{printed}");

    let printed = agent.sign(&["GET", url]).success();
    let fragment = agent.did.strip_prefix("did:key:").unwrap();
    assert!(printed.contains(&format!(";keyid=\"{}#{fragment}\"", agent.did)), "{printed}");
    assert_ne!(agent.sign(&["GET", url]).success(), printed, "the nonce is random");
}

#[tokio::test]
async fn parameters_are_as_asked() {
    let agent = Agent::with("secp256k1").await;
    let ask = |more: &[&str]| {
        let lines = agent.sign(&[&["GET", "https://a.example/"], more].concat()).success();
        lines.lines().next().unwrap().to_owned()
    };
    let number = |line: &str, name: &str| -> i64 {
        let (_, rest) = line.split_once(&format!(";{name}=")).unwrap();
        rest.split(';').next().unwrap().parse().unwrap()
    };
    for (lifetime, seconds) in [("60", 60), ("2m", 120), ("300", 300)] {
        let line = ask(&["--expires-in", lifetime]);
        assert_eq!(number(&line, "expires") - number(&line, "created"), seconds);
    }
    let line = ask(&["--nonce", "0123456789abcdef", "--keyid", "did:web:a.example#k"]);
    assert!(
        line.contains(
            ";nonce=\"0123456789abcdef\";keyid=\"did:web:a.example#k\";tag=\"onceguard\""
        ),
        "{line}"
    );
    let line = ask(&["--profile", "sage", "--nonce", "1"]);
    assert!(line.contains(";alg=\"es256k\"") && !line.contains("tag="), "{line}");
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused() {
    let agent = Agent::with("p256").await;
    std::fs::write(agent.file("body"), "{}").unwrap();
    let url = "https://a.example/";
    for (arguments, word) in [
        (["GET", "a.example/"].as_slice(), "http://"),
        (&["GET", "https://a.example/#top"], "'#'"),
        (&["GET", "https://me@a.example/"], "no user name"),
        (&["GE T", url], "HTTP method"),
        (&["POST", url, "--body", "body"], "--content-type"),
        (&["GET", url, "--header", "Host: b.example"], "the URL says"),
        (&["GET", url, "--header", "X-A"], "a colon"),
        (&["GET", url, "--header", "X-A: 1\r\nX-B: 2"], "visible ASCII"),
        (
            &["GET", url, "--header", "x-session-id: 1", "--header", "X-Session-Id: 2"],
            "more than once",
        ),
        (&["GET", url, "--header", "Signature: x"], "already"),
        (&["GET", url, "--expires-in", "301"], "at most 300 seconds"),
        (&["GET", url, "--expires-in", "0"], "more than zero"),
        (&["GET", url, "--nonce", "short"], "16 characters"),
        (&["GET", url, "--nonce", "a b"], "visible ASCII"),
        (&["GET", url, "--keyid", "https://a.example"], "must be a DID"),
        (&["GET", url, "--profile", "other"], "it has onceguard, sage"),
        (&["GET", url, "--profile", "sage"], "no algorithm for a key of type P256"),
    ] {
        assert_failed(&agent.sign(arguments), 2, &[word]);
    }
    assert_failed(&agent.sign(&["GET", url, "--body", "none"]), 1, &["cannot read none"]);
}
