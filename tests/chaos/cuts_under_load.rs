//! Clients claim through two instances without a pause, while the database fails over to a standby
//! that lacks what was accepted last. Nothing that any answer accepted is accepted again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::load::caller_with;
use crate::support::{Caller, ChaosProxy, Home, PrivatePostgres, a_did, wait_for};

const CLIENTS: usize = 8;

/// What was accepted, by session and nonce.
#[derive(Default)]
struct Book {
    accepted: Mutex<HashSet<(String, String)>>,
    count: AtomicU64,
}

impl Book {
    fn note(&self, session: &str, nonce: String) {
        let fresh = self.accepted.lock().unwrap().insert((session.to_owned(), nonce));
        assert!(fresh, "two answers accepted a nonce of {session}");
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    async fn grows(&self, by: u64, what: &str) {
        let until = self.count.load(Ordering::Relaxed) + by;
        wait_for(what, async || (self.count.load(Ordering::Relaxed) >= until).then_some(())).await;
    }
}

/// Each session is claimed in by one client only. It sends each nonce through both instances at once,
/// so that they compete for it.
async fn claim_on(callers: [Caller; 2], book: Arc<Book>, stop: watch::Receiver<bool>) {
    let parties = json!({ "client_did": a_did().as_str(), "server_did": a_did().as_str() });
    let mut session: Option<String> = None;
    let mut number = 0_u64;
    while !*stop.borrow() {
        let Some(id) = session.clone() else {
            let opened = callers[0].request("POST", "/v1/sessions").json(&parties).try_send().await;
            session = match opened {
                Ok(answer) if answer.status == 201 => Some(answer.text_of("id")),
                _ => None,
            };
            continue;
        };
        number += 1;
        let nonce = format!("nonce-{number}");
        let path = format!("/v1/sessions/{id}/nonces");
        let claim = |caller: &Caller| {
            caller.request("POST", &path).json(&json!({ "nonce": nonce })).try_send()
        };
        let (one, two) = tokio::join!(claim(&callers[0]), claim(&callers[1]));
        for answer in [one, two].into_iter().flatten() {
            match answer.status {
                201 => book.note(&id, nonce.clone()),
                409 | 503 => {}
                404 | 410 => session = None,
                _ => panic!("neither accepted nor refused nor unavailable: {answer:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_lost_commits_accepts_nothing_twice() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = Home::at(&proxy.url(primary.url())).set("database.pool.acquire_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    let homes = [home.another(), home];
    let processes = [homes[0].start().await, homes[1].start().await];
    let token = homes[0].token();
    let callers = processes.each_ref().map(|process| caller_with(&token, process));

    let (book, stop) = (Arc::new(Book::default()), watch::Sender::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(claim_on(callers.clone(), Arc::clone(&book), stop.subscribe()));
    }
    book.grows(200, "claims before the loss").await;
    standby.stop();
    book.grows(200, "claims that the standby lacks").await;
    primary.crash();
    standby.restart();
    standby.promote();
    proxy.lead_to(standby.url()).await;
    proxy.cut();
    book.grows(200, "claims after the fail-over").await;
    stop.send_replace(true);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }

    let accepted: Vec<_> = book.accepted.lock().unwrap().iter().cloned().collect();
    let mut lost = 0;
    for (number, (session, nonce)) in accepted.iter().enumerate() {
        let path = format!("/v1/sessions/{session}/nonces");
        let again = callers[number % 2].post(&path, &json!({ "nonce": nonce })).await;
        assert!([404, 409, 410].contains(&again.status), "{again:?}");
        lost += usize::from(again.status != 409);
    }
    assert!(lost >= 400, "only {lost} of {} claims came before the loss", accepted.len());
    let kept = standby.raw().await.number("count(*) FROM nonces").await;
    let known = i64::try_from(accepted.len()).unwrap();
    // Some are there whose answer was lost.
    assert!(known - kept >= 100, "{kept} of {known} accepted nonces are there, so few were lost");
    for process in processes {
        assert_eq!(process.stop().await.code(), 0);
    }
}
