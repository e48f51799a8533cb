//! One `serve` per data folder.

use serde_json::json;

use crate::load::caller;
use crate::support::{Database, Home};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_serve_on_the_same_folder_is_refused() {
    let home = Home::on(Database::Sqlite).await;
    let process = home.start().await;
    let address = std::fs::read_to_string(home.folder().join("listen.addr")).unwrap();

    let second = home.run(&["serve"]).await;
    assert_eq!(second.code(), 4, "{second:?}");
    assert!(second.stderr.contains("another `onceguard serve`"), "{}", second.stderr);
    assert!(second.stderr.contains("--data-dir"), "{}", second.stderr);

    // The first one still serves, at the address that it announced.
    assert_eq!(std::fs::read_to_string(home.folder().join("listen.addr")).unwrap(), address);
    let caller = caller(&home, &process);
    let nonces = format!("/v1/sessions/{}/nonces", caller.session().await);
    caller.post(&nonces, &json!({ "nonce": "a" })).await.is(201);

    // The lock ends with its process, even when that is killed.
    process.kill().await;
    let next = home.start().await;
    assert_eq!(next.stop().await.code(), 0);
}
