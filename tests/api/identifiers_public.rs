//! W3C DID Resolution for clients that cannot send a credential, and what it says it reads.

use onceguard::domain::TokenScope;
use rstest::rstest;
use serde_json::json;

use crate::identifiers::{did_at, path_of};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, Upstream};

const READERS: [&str; 2] = ["/1.0/methods", "/1.0/properties"];

async fn start(on: Database, public: bool) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        config.identifiers.public = public;
    })
    .await;
    (app, upstream)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_by_default(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on, false).await;
    let path = path_of(&did_at(&upstream, 1));
    for path in [&path, READERS[0], READERS[1]] {
        app.anybody().get(path).await.refused(401, "unauthenticated");
        app.caller(&[TokenScope::Sessions]).await.get(path).await.refused(403, "forbidden");
        app.caller(&[TokenScope::Dids]).await.get(path).await.is(200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_resolve_where_that_is_public(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on, true).await;
    let did = did_at(&upstream, 1);
    let path = path_of(&did);
    let anybody = app.anybody();
    for path in [&path, READERS[0], READERS[1]] {
        anybody.get(path).await.is(200);
        // A credential that is sent is checked.
        app.anybody().with_token(Some("og_x")).get(path).await.refused(401, "unauthenticated");
        app.caller(&[TokenScope::Sessions]).await.get(path).await.refused(403, "forbidden");
        let signed = anybody.request("GET", path).header("signature", "sig1=:AAAA:");
        signed.send().await.refused(401, "signature_malformed");
    }
    let document = anybody.request("GET", &path).header("accept", "application/json").send().await;
    assert_eq!(document.is(200)["id"], did.as_str());
    // Nothing else is public by that.
    anybody.get(&format!("/v1/dids/{did}")).await.refused(401, "unauthenticated");
    let post = anybody.request("POST", &path).send().await;
    post.refused(405, "method_not_allowed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_here_is_listed(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, _upstream) = start(on, false).await;
    assert_eq!(app.get(READERS[0]).await.is(200).json(), &json!(["example", "key"]));
    let universal = json!({ "methods": ["example"], "ttlSeconds": 300 });
    let properties = json!({ "key": { "methods": ["key"] }, "universal": universal });
    assert_eq!(app.get(READERS[1]).await.is(200).json(), &properties);

    app.restart_with(|config| config.resolvers.web.enabled = true).await;
    assert_eq!(app.get(READERS[0]).await.is(200).json(), &json!(["example", "key", "web"]));
    let web = &app.get(READERS[1]).await.is(200)["web"];
    assert_eq!(web, &json!({ "methods": ["web"], "ttlSeconds": 300 }));
}
