//! `onceguard doctor` on webhooks that get nothing, or that are not reached safely.

use rstest::rstest;
use serde_json::Value;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::Home;
use crate::{json, migrated};

/// The verdict and the detail of each check of webhooks.
async fn found(home: &Home) -> Vec<(String, String)> {
    let report = json(home.run(&["doctor", "--json"]).await);
    let checks = report["checks"].as_array().unwrap().iter();
    let of_webhooks = checks.filter(|check| check["check"] == "webhooks");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_webhooks.map(|check| (text(&check["verdict"]), text(&check["detail"]))).collect()
}

/// Makes a webhook, and returns its id.
async fn webhook(home: &Home, url: &str) -> String {
    let arguments = ["webhooks", "create", url, "--type", "example.a", "--json"];
    json(home.run(&arguments).await)["id"].as_str().unwrap().to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_get_nothing_are_warned_of(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let ok = [("ok".to_owned(), "all are active, and no event waits for long".to_owned())];
    assert_eq!(found(&home).await, ok);
    let [first, second, third] = [
        webhook(&home, "https://a.example/").await,
        webhook(&home, "https://b.example/").await,
        webhook(&home, "https://c.example/").await,
    ];
    assert_eq!(found(&home).await, ok);

    home.run(&["webhooks", "pause", &first]).await.success();
    home.run(&["webhooks", "pause", &second]).await.success();
    let raw = home.raw().await;
    raw.execute(
        "UPDATE webhooks SET state = 'disabled', reason = 'its receiver answered 410 Gone'
         WHERE url = 'https://c.example/'",
    )
    .await;
    let warned = found(&home).await;
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned.iter().all(|(verdict, _)| verdict == "warn"), "{warned:?}");
    let disabled = format!("1 are disabled, first {third} (its receiver answered 410 Gone); ");
    assert!(warned[0].1.starts_with(&disabled), "{warned:?}");
    let paused = format!("2 are paused, first {first}; ");
    assert!(warned[1].1.starts_with(&paused), "{warned:?}");
    assert!(warned[1].1.contains("webhooks resume"), "{warned:?}");

    home.run(&["webhooks", "resume", &first]).await.success();
    home.run(&["webhooks", "resume", &second]).await.success();
    home.run(&["webhooks", "resume", &third]).await.success();
    assert_eq!(found(&home).await, ok);
}

/// The samples have an event in each state.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_given_up_or_wait_for_long_are_warned_of(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    let warned = found(&home).await;
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].1.starts_with("1 are paused"), "{warned:?}");
    assert!(warned[1].1.starts_with("1 events were given up; "), "{warned:?}");
    let raw = home.raw().await;
    let long_ago = onceguard::clock::Clock::system().now() - chrono::Duration::minutes(90);
    let long_ago = raw.time(long_ago);
    raw.execute(&format!("UPDATE webhook_deliveries SET created_at = {long_ago}")).await;
    let warned = found(&home).await;
    assert_eq!(warned.len(), 3, "{warned:?}");
    assert_eq!(warned[2].0, "warn");
    assert!(warned[2].1.starts_with("an event has waited for 9"), "{warned:?}");
    raw.execute("DELETE FROM webhook_deliveries WHERE state <> 'delivered'").await;
    assert_eq!(found(&home).await.len(), 1);
}

#[rstest]
#[case::plain_http("http://receiver.example/")]
#[case::private("https://10.0.0.1/")]
#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_not_reached_safely_are_warned_of(
    #[values(Sqlite, Postgres)] on: Database,
    #[case] url: &str,
) {
    let mut home = migrated(on).await.set("webhooks.allow_private_addresses", true);
    home.run(&["seed"]).await.success();
    webhook(&home, "https://receiver.example/").await;
    let id = webhook(&home, url).await;
    let begins = format!("1 have a URL with plain http or a private address, first {id}; ");
    for (allowed, advice) in [(true, "trust the network"), (false, "nothing is sent there")] {
        home = home.set("webhooks.allow_private_addresses", allowed);
        let [(verdict, detail)] = &found(&home).await[..] else { panic!("not one check") };
        assert_eq!(verdict, "warn");
        assert!(detail.starts_with(&begins) && detail.contains(advice), "{detail}");
    }
}
