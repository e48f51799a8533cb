//! `GET /v1/instances`.

use onceguard::config::SealingKeyBytes;
use onceguard::domain::TokenScope;
use rstest::rstest;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, start_application};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_which_instances_serve(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let first = app.get("/v1/instances").await.is(200);
    let [instance] = &first["items"].as_array().unwrap()[..] else { panic!("{first:?}") };
    assert_eq!(instance["name"], app.api_address().to_string());
    assert_eq!((&instance["state"], &instance["ended_at"]), (&"active".into(), &Value::Null));
    assert_eq!(instance["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["next_cursor"], Value::Null);

    // A start that fails once the database knows of it.
    app.stop().await;
    let mut config = app.config().clone();
    config.sealing.key = Some(SealingKeyBytes(Zeroizing::new([8; 32])));
    start_application(config, app.store().clock()).await.err().expect("another sealing key");
    app.restart().await;
    let list = app.get("/v1/instances").await.is(200);
    let items = list["items"].as_array().unwrap();
    let states: Vec<_> = items.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "failed", "ended"]);
    assert!(items[1..].iter().all(|one| one["ended_at"].is_string()), "{list:?}");

    let page = app.get("/v1/instances?limit=2").await.is(200);
    let next = page.text_of("next_cursor");
    let rest = app.get(&format!("/v1/instances?limit=2&cursor={next}")).await.is(200);
    assert_eq!(rest["items"].as_array().unwrap()[..], items[2..]);
    app.get("/v1/instances?cursor=AA").await.refused(422, "validation_failed");
    app.caller(&[TokenScope::Sessions]).await.get("/v1/instances").await.refused(403, "forbidden");
}
