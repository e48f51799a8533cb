//! Lists of sessions: filters, order, pages.

use std::collections::HashSet;

use onceguard::domain::{
    Cursor, Did, EndReason, PageRequest, Session, SessionFilter, SessionId, StateFilter,
};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_session, an_event, minutes, opened, purge_batch, read};

/// Every page of a list.
async fn all_pages(store: &Store, filter: &SessionFilter, limit: u32) -> Vec<Vec<Session>> {
    let mut pages = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.list_sessions(filter, &PageRequest { limit, after }).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        pages.push(page.items);
        let Some(next) = page.next else { return pages };
        // A caller carries the cursor as text.
        after = Some(Cursor::parse(&next.encode()).unwrap());
        assert!(pages.len() < 1_000, "a list that never ends");
    }
}

async fn ids(store: &Store, filter: &SessionFilter) -> Vec<SessionId> {
    all_pages(store, filter, 500).await.concat().iter().map(|session| session.id).collect()
}

fn all() -> SessionFilter {
    SessionFilter { state: StateFilter::All, ..SessionFilter::default() }
}

fn in_state(state: StateFilter) -> SessionFilter {
    SessionFilter { state, ..SessionFilter::default() }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_is_one_empty_page(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(all_pages(&store, &all(), 10).await, vec![Vec::new()]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_newest_first_and_complete(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(1, 3, 7, 8, 500)] limit: u32,
) {
    let store = on.store().await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(0, opened(&store, a_session()).await.id);
    }
    let pages = all_pages(&store, &all(), limit).await;
    let found: Vec<_> = pages.concat().iter().map(|session| session.id).collect();
    assert_eq!(found, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn equal_times_neither_repeat_nor_hide(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(1, 2, 5)] limit: u32,
) {
    let store = on.store().await;
    let client = a_did();
    let mut expected = HashSet::new();
    for _ in 0..9 {
        let mut new = a_session();
        new.client_did = client.clone();
        expected.insert(opened(&store, new).await.id);
    }
    store
        .raw()
        .execute("UPDATE sessions SET created_at = (SELECT min(created_at) FROM sessions)")
        .await;
    let by_client = SessionFilter { client_did: Some(client), ..all() };
    for filter in [all(), by_client] {
        let found: Vec<_> = all_pages(&store, &filter, limit).await.concat();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.iter().map(|s| s.id).collect::<HashSet<_>>(), expected);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_opened_meanwhile_do_not_disturb_the_pages(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut expected = Vec::new();
    for _ in 0..4 {
        expected.insert(0, opened(&store, a_session()).await.id);
    }
    let first = PageRequest { limit: 2, after: None };
    let first = store.list_sessions(&all(), &first).await.unwrap();
    opened(&store, a_session()).await;
    let second = PageRequest { limit: 2, after: first.next };
    let second = store.list_sessions(&all(), &second).await.unwrap();
    let found: Vec<_> = first.items.iter().chain(&second.items).map(|s| s.id).collect();
    assert_eq!(found, expected);
    assert_eq!(second.next, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_narrows_to_parties(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (one, two, three) = (a_did(), a_did(), a_did());
    let open = async |client: &Did, server: &Did| {
        let mut new = a_session();
        (new.client_did, new.server_did) = (client.clone(), server.clone());
        opened(&store, new).await.id
    };
    let a = open(&one, &two).await;
    let b = open(&one, &three).await;
    let c = open(&two, &one).await;

    let of = |client: Option<&Did>, server: Option<&Did>| SessionFilter {
        client_did: client.cloned(),
        server_did: server.cloned(),
        state: StateFilter::Active,
    };
    assert_eq!(ids(&store, &of(Some(&one), None)).await, [b, a]);
    assert_eq!(ids(&store, &of(None, Some(&one))).await, [c]);
    assert_eq!(ids(&store, &of(Some(&one), Some(&three))).await, [b]);
    assert_eq!(ids(&store, &of(Some(&three), None)).await, []);
    assert_eq!(ids(&store, &of(None, None)).await, [c, b, a]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_narrows_to_states_recorded_or_not(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let expired = opened(&store, a_session()).await.id;
    let mut idle = a_session();
    idle.ttl_seconds = 36_000;
    idle.idle_timeout_seconds = Some(60);
    let idle = opened(&store, idle).await.id;
    let ended = opened(&store, a_session()).await.id;
    store.end_session(ended, EndReason::Ended, None).await.unwrap();
    let revoked = opened(&store, a_session()).await;
    let client = &revoked.client_did;
    store.revoke_did(client, an_event("onceguard.did.revoked", client)).await.unwrap();
    store.end_sessions_of_revoked(Some(client), None, 10).await.unwrap();
    store.pass(minutes(90)).await;
    let active = opened(&store, a_session()).await.id;

    let check = async || {
        assert_eq!(ids(&store, &in_state(StateFilter::Active)).await, [active]);
        assert_eq!(ids(&store, &in_state(StateFilter::Ended)).await, [revoked.id, ended]);
        assert_eq!(ids(&store, &in_state(StateFilter::Expired)).await, [idle, expired]);
        assert_eq!(ids(&store, &all()).await, [active, revoked.id, ended, idle, expired],);
        for session in all_pages(&store, &all(), 2).await.concat() {
            assert_eq!(session.state(), read(&store, session.id).await.state());
        }
    };
    check().await;
    purge_batch(&store, onceguard::storage::PurgeStep::EndOverdueSessions, 100).await;
    assert_eq!(read(&store, idle).await.end.unwrap().reason, EndReason::Idle, "now recorded");
    check().await;
}
