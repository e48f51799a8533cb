//! The journal of revocations: what was revoked after a copy was made stays revoked when the copy
//! comes back.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};

use crate::backup::place;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, Process, a_public_key, http_client};
use crate::{assert_failed, json};

const REVOKED: &str = "did:example:revoked";
const STORED: &str = "did:example:stored";

fn caller(process: &Process, home: &Home) -> Caller {
    let (http, base) = (http_client().build().unwrap(), format!("http://{}", process.api));
    Caller::new(http, base, Some(&home.token()))
}

fn key(number: u8) -> Value {
    let key = a_public_key(number);
    json!({ "key_type": key.key_type().as_str(), "public_key": STANDARD.encode(key.as_bytes()) })
}

/// A copy, and what was revoked and replaced after it was made. Returns the archive, and the ids of
/// two tokens that were revoked, one beside the service and one after it.
async fn revoked_after_a_copy(home: &Home) -> (String, [String; 2]) {
    let process = home.start().await;
    let api = caller(&process, home);
    let stored = format!("/v1/dids/{STORED}");
    api.put(&stored, &key(1)).await.is(201);
    let parties = json!({ "client_did": REVOKED, "server_did": "did:example:server" });
    api.open_with(parties).await;
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let made = ["token", "create", "--name", name, "--scope", "admin", "--json"];
        tokens.push(json(home.run(&made).await)["id"].as_str().unwrap().to_owned());
    }
    let (_, file) = place(home, "copy.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();

    api.request("POST", &format!("/v1/dids/{REVOKED}/revoke")).send().await.is(200);
    api.put(&stored, &key(2)).await.is(200);
    home.run(&["token", "revoke", &tokens[0]]).await.success();
    assert_eq!(process.stop().await.code(), 0);
    home.run(&["token", "revoke", &tokens[1]]).await.success();
    (file, tokens.try_into().unwrap())
}

/// Whether what was revoked is, and the replaced key is the new one.
async fn assert_state(home: &Home, tokens: &[String; 2], revoked: bool) {
    let process = home.start().await;
    let api = caller(&process, home);
    let parties = json!({ "client_did": REVOKED, "server_did": "did:example:server" });
    let opened = api.post("/v1/sessions", &parties).await;
    assert_eq!(opened.status, if revoked { 403 } else { 201 }, "{opened:?}");
    let stored = api.get(&format!("/v1/dids/{STORED}")).await.is(200).text();
    let known = key(if revoked { 2 } else { 1 });
    assert!(stored.contains(known["public_key"].as_str().unwrap()), "{stored}");
    let listed = json(home.run(&["token", "list", "--json"]).await);
    for token in listed["items"].as_array().unwrap() {
        if tokens.iter().any(|id| token["id"] == id.as_str()) {
            assert_eq!(token["valid"], !revoked, "{token}");
        }
    }
    assert_eq!(process.stop().await.code(), 0);
}

fn done_again(tokens: &[String; 2]) -> Value {
    json!([
        format!("DID {REVOKED}"),
        format!("key of {STORED}"),
        format!("token {}", tokens[0]),
        format!("token {}", tokens[1]),
    ])
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_stays_revoked_when_a_copy_comes_back(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = Home::on(on).await;
    let (file, tokens) = revoked_after_a_copy(&home).await;
    assert_state(&home, &tokens, true).await;
    let restore = ["restore", &file, "--yes", "--tokens", "keep", "--json"];
    let told = json(home.run(&restore).await);
    assert_eq!(told["done_again"], done_again(&tokens));
    assert_state(&home, &tokens, true).await;
    let event = "count(*) FROM events WHERE type = 'onceguard.database.recovered' AND \
                 CAST(data AS text) LIKE '%did:example:revoked%'";
    assert_eq!(home.raw().await.number(event).await, 1);
    // There is nothing left to do again.
    assert_eq!(json(home.run(&["recover", "--yes", "--json"]).await)["done_again"], json!([]));
    let told = home.run(&restore[..5]).await.success();
    assert!(told.contains(&format!("again: DID {REVOKED}\n")), "{told}");

    // Without the journal, the copy's state comes back; by the journal in a file, it goes again.
    let (path, elsewhere) = place(&home, "elsewhere");
    fs::rename(home.folder().join("revocations"), &path).unwrap();
    assert_eq!(json(home.run(&restore).await)["done_again"], json!([]));
    assert_state(&home, &tokens, false).await;
    let recover = ["recover", "--yes", "--json", "--revocations", &elsewhere];
    assert_eq!(json(home.run(&recover).await)["done_again"], done_again(&tokens));
    assert_state(&home, &tokens, true).await;

    fs::write(&path, "{\"action\":\"did.revoke\"}\n").unwrap();
    assert_failed(&home.run(&recover).await, 1, &[&elsewhere, "line 1", "no subject"]);
}

/// Each instance hears of what the others revoke.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_remembers_what_another_revoked() {
    let home = Home::on(Postgres).await;
    let other = home.another();
    let (one, two) = (home.start().await, other.start().await);
    let api = caller(&one, &home);
    crate::support::wait_for("the other instance to hear", async || {
        let did = format!("did:example:{}", crate::support::unique());
        api.request("POST", &format!("/v1/dids/{did}/revoke")).send().await.is(200);
        let journal = fs::read_to_string(other.folder().join("revocations")).unwrap_or_default();
        journal.contains("did:example:").then_some(())
    })
    .await;
    for process in [one, two] {
        assert_eq!(process.stop().await.code(), 0);
    }
}

/// A full disk, a folder that cannot be written: the revocation stands, and that is told.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_stands_without_a_journal(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let process = home.start().await;
    fs::create_dir(home.folder().join("revocations")).unwrap();
    let api = caller(&process, &home);
    api.request("POST", &format!("/v1/dids/{REVOKED}/revoke")).send().await.is(200);
    let parties = json!({ "client_did": REVOKED, "server_did": "did:example:server" });
    api.post("/v1/sessions", &parties).await.refused(403, "did_revoked");
    let ops = Caller::new(http_client().build().unwrap(), format!("http://{}", process.ops), None);
    let failures = ops.metric("onceguard_revocation_journal_failures_total", &[]).await;
    assert!(failures > 0.5, "{failures}");
    let ended = process.stop().await;
    assert!(ended.stderr.contains("could not be written to the journal"), "{ended:?}");
    assert_failed(&home.run(&["recover", "--yes"]).await, 1, &["revocations", "mend it"]);
}
