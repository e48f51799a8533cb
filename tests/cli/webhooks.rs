//! `onceguard webhooks`.

use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Receiver, wait_for};
use crate::{assert_failed, json, migrated};

const UNKNOWN: &str = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_where_events_are_sent(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await.set("webhooks.allow_private_addresses", true);
    let receiver = Receiver::start().await;
    let process = home.start().await;
    let url = receiver.url("/");
    let types = "a.b,onceguard.token.revoked";
    let made = home.run(&["webhooks", "create", &url, "--type", types]).await;
    assert!(made.stderr.contains("not shown again"), "{made:?}");
    let secret = made.success();
    assert!(secret.starts_with("whsec_") && secret.trim().len() == 50, "{secret}");
    let list = json(home.run(&["webhooks", "list", "--json"]).await);
    let id = list["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list["items"][0]["state"], "active");
    let table = home.run(&["webhooks", "list"]).await.success();
    assert!(table.contains(&id) && table.contains(&url) && !table.contains("whsec"), "{table}");
    let signature = list["items"][0]["signature"].as_str().unwrap();
    assert!(table.contains("SIGNATURE") && table.contains(&format!(" {signature} ")), "{table}");

    let token = ["token", "create", "--name", "x", "--scope", "nonces", "--json"];
    let token = json(home.run(&token).await)["id"].as_str().unwrap().to_owned();
    home.run(&["token", "revoke", &token]).await.success();
    wait_for("the event", async || (receiver.count() == 1).then_some(())).await;
    let deliveries = wait_for("the delivery", async || {
        let arguments = ["webhooks", "deliveries", &id, "--state", "delivered", "--json"];
        let found = json(home.run(&arguments).await);
        (!found["items"].as_array().unwrap().is_empty()).then_some(found)
    });
    let event = deliveries.await["items"][0]["event"].as_str().unwrap().to_owned();
    assert_eq!(receiver.got()[0].id(), event);
    home.run(&["webhooks", "replay", &id, "--event", &event]).await.success();
    wait_for("the event again", async || (receiver.count() == 2).then_some(())).await;
    home.run(&["webhooks", "replay", &id, "--since", "2026-01-02T03:04:05Z"]).await.success();
    wait_for("all events again", async || (receiver.count() == 3).then_some(())).await;
    assert!(receiver.got().iter().all(|got| got.id() == event));

    let paused = home.run(&["webhooks", "pause", &id]).await.success();
    assert_eq!(paused, format!("{id}: paused\n"));
    let resumed = json(home.run(&["webhooks", "resume", &id, "--json"]).await);
    assert_eq!(resumed["state"], "active");
    home.run(&["webhooks", "delete", &id]).await.success();
    let list = json(home.run(&["webhooks", "list", "--json"]).await);
    assert_eq!(list["items"], serde_json::json!([]));
    assert_eq!(process.stop().await.code(), 0);
}

/// The operator's commands have the same configuration as the service.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_the_configuration_is_not_deleted(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let file = home.folder().join("webhooks.toml");
    let text = "[webhooks.endpoints.shop]\nurl = 'https://receiver.example/'\ntypes = ['a.b']\n\
                secret = 'whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc='\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let start = home.command(&["serve", "--config", file]);
    let process = home.start_as(start).await;
    assert_eq!(process.stop().await.code(), 0);
    let list = json(home.run(&["webhooks", "list", "--json"]).await);
    assert_eq!(list["items"][0]["name"], "shop");
    let id = list["items"][0]["id"].as_str().unwrap();
    let refused = home.run(&["webhooks", "delete", id, "--config", file]).await;
    assert_failed(&refused, 4, &["the configuration names webhook", "[webhooks.endpoints]"]);
    home.run(&["webhooks", "pause", id, "--config", file]).await.success();
    let doctor = json(home.run(&["doctor", "--json"]).await);
    let left = "1 are not in webhooks.endpoints any more, first";
    assert!(doctor.to_string().contains(left), "{doctor}");
    let doctor = json(home.run(&["doctor", "--json", "--config", file]).await);
    assert!(!doctor.to_string().contains(left), "{doctor}");
    home.run(&["webhooks", "delete", id]).await.success();

    std::fs::write(file, text.replace("https", "http")).unwrap();
    let check = home.run(&["config", "check", "--config", file]).await;
    assert_failed(&check, 1, &["webhooks.endpoints: shop.url must begin with https://"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_in_words(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    assert_eq!(home.start().await.stop().await.code(), 0);
    for (arguments, code, word) in [
        (&["webhooks", "create", "http://a.example/", "--type", "*"][..], 2, "https://"),
        (&["webhooks", "create", "https://127.0.0.1/", "--type", "*"], 2, "public address"),
        (&["webhooks", "create", "https://a.example/", "--type", "onceguard.no"], 2, "must be `*`"),
        (&["webhooks", "create", "https://a.example/"], 2, "--type"),
        (&["webhooks", "pause", UNKNOWN], 1, "there is no webhook"),
        (&["webhooks", "delete", UNKNOWN], 1, "there is no webhook"),
        (&["webhooks", "deliveries", UNKNOWN], 1, "there is no webhook"),
        (&["webhooks", "replay", UNKNOWN, "--event", UNKNOWN], 1, "there is no webhook"),
        (&["webhooks", "replay", UNKNOWN], 2, "--since"),
    ] {
        assert_failed(&home.run(arguments).await, code, &[word]);
    }
}
