//! A backup beside a service under load: nothing that was accepted before it began is missing.

use std::collections::BTreeSet;

use onceguard::archive::{self, InvalidArchive};
use rstest::rstest;
use serde_json::{Value, json};

use crate::load::{Load, caller};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::Home;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_all_that_was_accepted_before_it(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let process = home.start().await;
    let caller = caller(&home, &process);
    let (id, other) = (caller.session().await, caller.session().await);
    let load = Load::start(std::slice::from_ref(&caller), 8, &other, "load");
    for round in 0..4 {
        load.accepts(100).await;
        for number in 0..20 {
            let nonce = json!({ "nonce": format!("before-{round}-{number}") });
            caller.post(&format!("/v1/sessions/{id}/nonces"), &nonce).await.is(201);
        }
        let loaded = load.counts().accepted;
        let path = home.folder().join(format!("{round}.tar.zst"));
        home.run(&["backup", "--output", &path.display().to_string()]).await.success();

        let mut nonces = BTreeSet::new();
        archive::read::<InvalidArchive>(&path, None, |table, lines| {
            let lines = String::from_utf8(lines).unwrap();
            if table == "nonces" {
                let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                nonces.extend(rows.map(|row| row["nonce"].as_str().unwrap().to_owned()));
            }
            Ok(())
        })
        .unwrap();
        for number in 0..20 {
            assert!(nonces.contains(&format!("before-{round}-{number}")), "{round}-{number}");
        }
        let held = nonces.iter().filter(|nonce| nonce.starts_with("load-")).count() as u64;
        assert!(held >= loaded, "{held} of {loaded}");
        assert!(load.counts().accepted > loaded, "the service stood still");
    }
    load.stop().await;
    assert_eq!(process.stop().await.code(), 0);
}
