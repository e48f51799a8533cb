//! Who may do what with records: every call by every kind of caller.

use onceguard::domain::KeyType;
use onceguard::domain::TokenScope::{Admin, Dids, Nonces, Records, Revoke, Sessions, Verify};
use rstest::rstest;
use serde_json::{Value, json};

use crate::records::sealed;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp};

/// A call, and who may make it beside `admin`: the owner, and a token with the scope `records`.
struct Row {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    header: Option<(&'static str, &'static str)>,
    owner: bool,
    records: bool,
}

fn rows() -> Vec<Row> {
    let batch = json!({"operations": [
        {"op": "put", "kind": "sync", "id": "r", "if_match": "*", "record": sealed(b"y")},
    ]});
    let row =
        |method, path, owner| Row { method, path, body: None, header: None, owner, records: owner };
    vec![
        row("GET", "/sync/r", true),
        row("HEAD", "/sync/r", true),
        Row {
            body: Some(sealed(b"x")),
            header: Some(("if-match", "*")),
            ..row("PUT", "/sync/r", true)
        },
        Row { body: Some(batch), ..row("POST", "/batch", true) },
        row("GET", "", true),
        row("GET", "?fields=meta", true),
        row("GET", "/usage", true),
        Row { header: Some(("if-match", "*")), ..row("DELETE", "/sync/r", true) },
        row("DELETE", "", true),
        Row { records: false, ..row("DELETE", "/data", true) },
        row("GET", "?inactive_days=1", false),
        row("DELETE", "?inactive_days=1", false),
    ]
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_and_the_right_tokens_reach_records(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let (owner, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    // A session between the two changes nothing.
    app.open_with(json!({"client_did": other.did.as_str(), "server_did": owner.did.as_str()}))
        .await;
    let tokens = [
        app.caller(&[Admin]).await,
        app.caller(&[Records]).await,
        app.caller(&[Sessions, Nonces, Dids, Revoke, Verify]).await,
        app.caller(&[]).await,
    ];
    let create = async || {
        let path = format!("/v1/records/{}/sync/r", owner.did);
        let put = app.request("PUT", &path).header("if-none-match", "*").json(&sealed(b"x"));
        let _ = put.send().await;
    };
    for Row { method, path, body, header, owner: owns, records } in rows() {
        let is_list_of_owners = path.starts_with("?inactive");
        let path = if is_list_of_owners {
            format!("/v1/records{path}")
        } else if path == "/data" {
            format!("/v1/dids/{}{path}", owner.did)
        } else {
            format!("/v1/records/{}{path}", owner.did)
        };
        let at = format!("{method} {path}");
        let complete = |mut request: crate::support::Request| {
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            request
        };
        for (caller, allowed) in tokens.iter().zip([true, records, false, false]) {
            create().await;
            let mut request = complete(caller.request(method, &path));
            if let Some(body) = &body {
                request = request.json(body);
            }
            if allowed {
                assert!(request.send().await.status < 300, "{at}");
            } else {
                assert_eq!(request.send().await.status, 403, "{at}");
            }
        }
        for (agent, allowed) in [(&owner, owns), (&other, false)] {
            create().await;
            let request = match &body {
                Some(body) => agent.json(&app, method, &path, body),
                None => agent.request(&app, method, &path),
            };
            let status = complete(request).send().await.status;
            if allowed {
                assert!(status < 300, "{at}: {status}");
            } else {
                assert_eq!(status, 403, "{at}");
            }
        }
        let nobody = complete(app.anybody().request(method, &path));
        assert_eq!(nobody.send().await.status, 401, "{at}");
    }
}
