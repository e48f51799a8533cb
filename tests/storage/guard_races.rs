//! Connections that are checked while something else changes what they are compared with: heartbeats
//! that remove marks, another instance that recovers, another connection that did.

use futures_util::future::{join, join_all};
use onceguard::config::OnCut::Recover;
use onceguard::config::Replication::Asynchronous;

use crate::guard::{cut, opens, serving};
use crate::support::Database::Postgres;
use crate::support::{a_session, joining, opened, wait_for};

/// A heartbeat removes the marks of closed connections, which a check may be about to look for.
#[tokio::test(flavor = "multi_thread")]
async fn checks_beside_heartbeats_and_closings_find_nothing_missing() {
    let store = serving(Postgres, Recover).await;
    for round in 0..20 {
        cut(&store).await;
        let heartbeats = async {
            for _ in 0..8 {
                // Some meet a broken connection.
                let _ = store.heartbeat().await;
            }
        };
        let openings = join_all((0..6).map(|_| opens(&store)));
        let (opened, ()) = join(openings, heartbeats).await;
        opened.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        assert_eq!(store.recovered_at(), None, "in round {round}");
    }
    assert_eq!(store.raw().number("cardinality(ancestors) FROM history").await, 0);
}

/// It decides until the recovery commits, later than the recovery's clock.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_decided_during_the_recovery_of_another_instance_needs_no_recovery() {
    let first = serving(Postgres, Recover).await;
    let second = first.another().await;
    second.join(joining(Asynchronous, Recover)).await.unwrap();
    let raw = first.raw();
    raw.execute("CREATE TABLE before AS SELECT * FROM marks").await;
    // Lost afterwards: only the first one knows of it.
    opened(&first, a_session()).await;
    raw.execute("DELETE FROM marks; INSERT INTO marks SELECT * FROM before").await;
    // The first new connection recovers, also one that the pool opens: it has to wait from now on.
    raw.execute("BEGIN; LOCK TABLE leases IN SHARE MODE").await;
    cut(&first).await;
    opens(&second).await.unwrap();

    let recovering = opens(&first);
    let deciding = async {
        let waiting = "count(*) FROM pg_locks WHERE NOT granted AND relation = 'leases'::regclass";
        wait_for("the recovery", async || (raw.number(waiting).await > 0).then_some(())).await;
        let accepted = opened(&second, a_session()).await;
        raw.execute("COMMIT").await;
        accepted
    };
    let (recovered, accepted) = join(recovering, deciding).await;
    recovered.unwrap();
    opens(&second).await.unwrap();
    opens(&first).await.unwrap();
    assert_eq!(second.recovered_at(), first.recovered_at());
    assert_eq!(raw.number("cardinality(ancestors) FROM history").await, 1, "it recovered again");
    // It is in the database, so it cannot be accepted again.
    second.session(accepted.id).await.unwrap().unwrap();
    second.close().await;
}

/// They all find the loss, and one of them recovers the database.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_find_a_loss_together_recover_once() {
    let store = serving(Postgres, Recover).await;
    let raw = store.raw();
    for round in 1..=20 {
        // By more than what a connection that is still being opened makes up for, with the heartbeat
        // that it sends; and before the cut, since none that is opened after that may miss it.
        raw.execute("UPDATE instances SET counter = counter + 1000").await;
        store.heartbeat().await.unwrap();
        raw.execute("UPDATE instances SET counter = counter - 500").await;
        cut(&store).await;
        let opened = join_all((0..6).map(|_| opens(&store))).await;
        opened.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        assert_eq!(raw.number("cardinality(ancestors) FROM history").await, round);
    }
}
