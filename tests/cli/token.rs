//! `onceguard token`.

use rstest::rstest;
use serde_json::Value;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::{assert_failed, json, migrated};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_printed_once_and_alone(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let finished = home
        .run(&[
            "token",
            "create",
            "--name",
            "agents",
            "--scope",
            "nonces,sessions",
            "--scope",
            "dids",
        ])
        .await;
    assert!(finished.stderr.contains("agents"), "{finished:?}");
    let printed = finished.success();
    let token = printed.strip_suffix('\n').unwrap();
    assert!(token.starts_with("og_") && !token.contains(char::is_whitespace), "{token}");

    let listed = home.run(&["token", "list"]).await.success();
    assert!(listed.contains("agents") && listed.contains("sessions,nonces,dids"), "{listed}");
    let listed_json = json(home.run(&["token", "list", "--json"]).await);
    let item = &listed_json["items"][0];
    assert_eq!(item["scopes"], serde_json::json!(["sessions", "nonces", "dids"]));
    assert_eq!(item["valid"], true);
    assert_eq!(item["expires_at"], serde_json::Value::Null);
    assert!(!listed.contains(token) && !listed_json.to_string().contains(token));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_be_bound_to_a_namespace(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let create = ["token", "create", "--name", "x", "--scope", "nonces", "--namespace"];
    let finished = home.run(&[&create[..], &["webhooks", "--max-ttl", "1h"]].concat()).await;
    assert!(finished.stderr.contains("webhooks") && finished.stderr.contains("3600 s"));
    finished.success();
    let made = json(home.run(&[&create[..], &["https://a.example/", "--json"]].concat()).await);
    assert_eq!(made["namespace"], "https://a.example/");
    assert_eq!(made["max_ttl_seconds"], 86_400);
    json(home.run(&["token", "create", "--name", "y", "--scope", "nonces", "--json"]).await);

    let listed = json(home.run(&["token", "list", "--json"]).await);
    let of = |field: &str| -> Vec<_> {
        listed["items"].as_array().unwrap().iter().map(|item| item[field].clone()).collect()
    };
    assert_eq!(of("namespace"), ["webhooks".into(), "https://a.example/".into(), Value::Null]);
    assert_eq!(of("max_ttl_seconds"), [3600.into(), 86_400.into(), Value::Null]);
    let table = home.run(&["token", "list"]).await.success();
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let namespaces: Vec<_> = lines.iter().map(|words| words[3]).collect();
    assert_eq!(namespaces, ["NAMESPACE", "webhooks", "https://a.example/", "any"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_expire_and_be_revoked(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let arguments =
        ["token", "create", "--name", "x", "--scope", "admin", "--expires-in", "2h", "--json"];
    let made = json(home.run(&arguments).await);
    assert!(made["token"].as_str().unwrap().starts_with("og_"));
    let time = |field: &str| made[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
    let lifetime = time("expires_at").unwrap() - time("created_at").unwrap();
    assert_eq!(lifetime, chrono::Duration::hours(2));

    let id = made["id"].as_str().unwrap();
    let revoked = home.run(&["token", "revoke", id]).await.success();
    assert!(revoked.starts_with(&format!("{id} (x): revoked ")), "{revoked}");
    let first = json(home.run(&["token", "revoke", id, "--json"]).await);
    assert_eq!(first["valid"], false);
    let second = json(home.run(&["token", "revoke", id, "--json"]).await);
    assert_eq!(first["revoked_at"], second["revoked_at"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let create = ["token", "create", "--name", "x", "--scope"];
    let with = |more: &[&'static str]| [&create[..], more].concat();
    for (arguments, word) in [
        (with(&["everything"]), "session_keys"),
        (with(&["admin", "--expires-in", "soon"]), "90s, 45m, 12h or 30d"),
        (vec!["token", "create", "--name", "", "--scope", "admin"], "1 to 100 characters"),
        (vec!["token", "create", "--name", "x"], "--scope"),
        (with(&["admin", "--namespace", "a"]), "only the scope nonces, not admin"),
        (with(&["nonces,verify", "--namespace", "a"]), "only the scope nonces"),
        (with(&["nonces", "--namespace", "a b"]), "visible ASCII"),
        (with(&["nonces", "--max-ttl", "1h"]), "--namespace"),
        (with(&["nonces", "--namespace", "a", "--max-ttl", "25h"]), "at most 24h"),
        (vec!["token", "revoke", "1"], "1"),
    ] {
        assert_failed(&home.run(&arguments).await, 2, &[word]);
    }
    let unknown = "01939c5e-3b1f-7c02-9d53-0f6a1d7e2b11";
    assert_failed(&home.run(&["token", "revoke", unknown]).await, 1, &[unknown, "token list"]);
    assert_eq!(json(home.run(&["token", "list", "--json"]).await)["items"], serde_json::json!([]));
}
