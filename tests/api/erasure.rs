//! Erasure of a DID: nothing that is kept names it any more, and none of its messages passes again.

use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};

use crate::records::sealed;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Message, TestApp};

/// The tables in which a text is found, in any column.
async fn tables_with(app: &TestApp, on: Database, text: &str) -> Vec<String> {
    let raw = app.store().raw();
    let names = match on {
        Postgres => {
            "string_agg(table_name, ',') FROM information_schema.tables \
             WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        }
        _ => "group_concat(name) FROM sqlite_schema WHERE type = 'table'",
    };
    let mut found = Vec::new();
    for table in raw.text(names).await.split(',') {
        let rows = if on == Postgres {
            format!("count(*) FROM {table} AS t WHERE strpos(t::text, '{text}') > 0")
        } else {
            let columns = format!(
                "group_concat('instr(coalesce(CAST(' || name || ' AS TEXT), ''''), ''{text}'')', ' + ') \
                 FROM pragma_table_info('{table}')"
            );
            format!("count(*) FROM {table} WHERE {} > 0", raw.text(&columns).await)
        };
        if raw.number(&rows).await > 0 {
            found.push(table.to_owned());
        }
    }
    found.sort();
    found
}

/// Leaves traces of an agent in every table that can name one.
async fn traces(app: &TestApp, agent: &Agent) -> String {
    let did = agent.did.as_str();
    let open = json!({
        "client_did": did, "server_did": "did:web:server.example", "session_key": "a2V5",
        "metadata": {"of": did},
    });
    let opened = agent.json(app, "POST", "/v1/sessions", &open).send().await.is(201);
    let other = json!({"client_did": "did:web:client.example", "server_did": did});
    app.open_with(other).await;
    let record = format!("/v1/records/{did}/sync/r");
    let put = agent.json(app, "PUT", &record, &sealed(b"x")).header("if-none-match", "*");
    put.send().await.is(201);
    app.post("/v1/sessions/end", &json!({"client_did": did})).await.is(200);
    agent.json(app, "POST", "/v1/sessions", &open).send().await.is(201);
    opened.text_of("id")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_names_an_erased_did(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    let session = traces(&app, &agent).await;
    traces(&app, &other).await;
    let did = agent.did.as_str();
    let before = tables_with(&app, on, did).await;
    for table in ["events", "record_owners", "sessions", "signers"] {
        assert!(before.iter().any(|found| found == table), "{before:?}");
    }
    let spent = app.store().raw().number("count(*) FROM signer_nonces").await;

    let path = format!("/v1/dids/{did}/data");
    let message = Message::new("DELETE", &format!("{}{path}", app.base()));
    let message = message.signed(&agent, app.store().clock().now());
    let erased = message.to_http(&app.anybody()).send().await.is(200);
    assert_eq!((&erased["sessions"], &erased["records"]), (&json!(3), &json!(1)));

    assert_eq!(tables_with(&app, on, did).await, Vec::<String>::new());
    assert!(!tables_with(&app, on, other.did.as_str()).await.is_empty());
    // The message that asked for it cannot be used again, nor can any other.
    message.to_http(&app.anybody()).send().await.refused(401, "signature_replayed");
    assert_eq!(app.store().raw().number("count(*) FROM signer_nonces").await, spent + 1);
    app.get(&format!("/v1/sessions/{session}")).await.refused(410, "session_ended");
    let left = "count(*) FROM sessions WHERE client_did LIKE 'did:erased:%' AND metadata = '{}' \
                AND server_did = 'did:web:server.example' AND session_key IS NULL";
    assert_eq!(app.store().raw().number(left).await, 2);
    let left = "count(*) FROM sessions WHERE server_did LIKE 'did:erased:%' \
                AND client_did = 'did:web:client.example' AND ended_at IS NOT NULL";
    assert_eq!(app.store().raw().number(left).await, 1);
    assert!(app.audited().await.contains(&"did.erased".to_owned()));
    assert_eq!(tables_with(&app, on, did).await, Vec::<String>::new());

    // It is no revocation: the agent may begin anew, with nothing.
    let records = format!("/v1/records/{did}");
    let list = agent.request(&app, "GET", &records).send().await.is(200);
    assert_eq!(list["items"], Value::Array(vec![]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_an_erasure(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let did = agent.did.as_str();
    traces(&app, &agent).await;
    app.request("POST", &format!("/v1/dids/{did}/revoke")).send().await.is(200);
    let path = format!("/v1/dids/{did}/data");
    agent.request(&app, "DELETE", &path).send().await.refused(403, "signature_key_revoked");
    app.delete(&path).await.is(200);
    assert_eq!(tables_with(&app, on, did).await, ["dids"]);
    let read = app.get(&format!("/v1/dids/{did}")).await.is(200);
    assert_eq!(read["revoked"], true);
    agent.request(&app, "GET", "/v1/sessions").send().await.refused(403, "signature_key_revoked");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_erases_only_itself(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    traces(&app, &other).await;
    let before = tables_with(&app, on, other.did.as_str()).await;
    let path = format!("/v1/dids/{}/data", other.did);
    agent.request(&app, "DELETE", &path).send().await.refused(403, "forbidden");
    assert_eq!(tables_with(&app, on, other.did.as_str()).await, before);
}
