//! The URLs of nodes hold API keys: whatever happens, nobody gets to see them.

use serde_json::json;

use crate::node::{Node, Reply};
use crate::script::{CONTRACT, DID, Script};
use crate::support::{Caller, Database, Home, http_client};

/// As it is, and as HTTP's basic authentication encodes it.
const SECRETS: [&str; 2] = ["hunter2", "dXNlcjpodW50ZXIy"];

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_in_no_log_answer_or_metric_and_not_for_a_proxy() {
    let node = Script::new().node().await;
    let down = Node::start(|_| Reply::Close).await.address();
    let proxy = Script::new().node().await;
    let endpoints = [
        format!("https://user:hunter2@{down}/hunter2"),
        format!("http://user:hunter2@{}/hunter2?key=hunter2", node.address()),
    ];
    let home = Home::on(Database::Sqlite)
        .await
        .set("resolvers.registry.endpoints", endpoints.join(","))
        .set("resolvers.registry.contract", CONTRACT)
        .set("resolvers.registry.chain_id", 31337);
    let mut command = home.command(&["serve"]);
    command.env("RUST_LOG", "trace").env("HTTP_PROXY", proxy.url()).env("ALL_PROXY", proxy.url());
    let service = home.start_as(command).await;
    let http = http_client().build().unwrap();
    let caller = |address, token: Option<&str>| {
        Caller::new(http.clone(), format!("http://{address}"), token)
    };
    let api = caller(service.api, Some(&home.token()));

    let found = api.get(&format!("/v1/dids/{DID}")).await.is(200);
    assert_eq!(found["source"], json!("registry"));
    assert!(!node.calls().is_empty() && proxy.calls().is_empty());
    drop(node);
    let unknown = format!("/v1/dids/{DID}:another");
    let unreachable = api.get(&unknown).await.refused(503, "upstream_unavailable");
    let metrics = caller(service.ops, None).get("/metrics").await.is(200);
    let shown = home.run(&["config", "show"]).await;
    let log = service.stop().await;
    assert!(log.stderr.contains("endpoint 1 (127.0.0.1) cannot be reached: "), "{}", log.stderr);
    assert!(log.stderr.contains("TRACE"), "{}", log.stderr);
    for secret in SECRETS {
        for text in [
            format!("{found:?}{unreachable:?}"),
            format!("{metrics:?}"),
            format!("{shown:?}"),
            format!("{log:?}"),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
