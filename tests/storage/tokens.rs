//! API tokens.

use std::collections::HashMap;

use onceguard::domain::{NewToken, SessionId, TokenHash, TokenScope, TokenScopes};
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_binding, an_event, minutes, unique};

pub(crate) fn a_token() -> NewToken {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&unique().to_be_bytes());
    NewToken {
        id: Uuid::now_v7(),
        name: "agent".into(),
        hash: TokenHash(hash),
        scopes: TokenScopes::new(vec![TokenScope::Nonces, TokenScope::Sessions]),
        binding: None,
        ttl_seconds: None,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_by_its_hash(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let new = a_token();
    assert_eq!(store.token(&new.hash).await.unwrap(), None);
    let event = an_event("onceguard.token.created", &new.id);
    let created = store.create_token(new.clone(), event).await.unwrap();
    assert_eq!((created.id, &created.name, &created.scopes), (new.id, &new.name, &new.scopes));
    assert_eq!((created.expires_at, created.last_used_at, created.revoked_at), (None, None, None));
    assert!(created.is_valid());

    let mut found = store.token(&new.hash).await.unwrap().unwrap();
    assert!(found.observed_at >= created.observed_at);
    found.observed_at = created.observed_at;
    assert_eq!(found, created);
    assert_eq!(store.token(&a_token().hash).await.unwrap(), None);
    assert_eq!(store.newest_events(10).await.unwrap()[0].kind, "onceguard.token.created");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_are_found_at_once(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let known: Vec<_> = (0..3).map(|_| a_token()).collect();
    for new in &known {
        store
            .create_token(new.clone(), an_event("onceguard.token.created", &new.id))
            .await
            .unwrap();
    }
    // One that this version cannot read, because a later one made it.
    let raw = store.raw();
    let scopes = match on {
        Postgres => {
            raw.execute("ALTER TABLE api_tokens DROP CONSTRAINT api_tokens_scopes_known").await;
            "'{of-the-future}'"
        }
        _ => "'[\"of-the-future\"]'",
    };
    let id = raw.id(SessionId(known[1].id));
    raw.execute(&format!("UPDATE api_tokens SET scopes = {scopes} WHERE id = {id}")).await;

    let asked = (0..500).map(|_| a_token().hash).chain(known.iter().map(|new| new.hash));
    let found: HashMap<_, _> = store.tokens(asked.collect()).await.unwrap().into_iter().collect();
    assert_eq!(found.len(), 3);
    assert_eq!(found[&known[0].hash].as_ref().unwrap().id, known[0].id);
    assert!(found[&known[1].hash].is_err());
    assert_eq!(found[&known[2].hash].as_ref().unwrap().id, known[2].id);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_keeps_its_namespace(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let bound = NewToken {
        scopes: TokenScopes::new(vec![TokenScope::Nonces]),
        binding: Some(a_binding("https://issuer.example/#a", 3600)),
        ..a_token()
    };
    let event = || an_event("onceguard.token.created", &bound.id);
    let created = store.create_token(bound.clone(), event()).await.unwrap();
    assert_eq!(created.binding, bound.binding);
    assert_eq!(store.token(&bound.hash).await.unwrap().unwrap().binding, bound.binding);
    assert_eq!(store.list_tokens().await.unwrap()[0].binding, bound.binding);
    // What it could do elsewhere is not even stored.
    let too_much = NewToken { binding: bound.binding.clone(), ..a_token() };
    assert!(store.create_token(too_much.clone(), event()).await.is_err());
    assert_eq!(store.token(&too_much.hash).await.unwrap(), None);

    // Without the columns, the token must not become one that claims everywhere.
    let free = a_token();
    store.create_token(free.clone(), event()).await.unwrap();
    let all = store.migrations().await.unwrap();
    let since = all.iter().rev().take_while(|one| !one.name.ends_with("_token_namespaces")).count();
    let reverted = store.migrate_down(Some(u32::try_from(since + 1).unwrap())).await.unwrap();
    assert_eq!(reverted.last().unwrap(), "2026-11-30-000150_token_namespaces");
    store.migrate_up().await.unwrap();
    assert_eq!(store.token(&bound.hash).await.unwrap(), None);
    assert_eq!(store.token(&free.hash).await.unwrap().unwrap().binding, None);
}

/// A token whose namespace cannot be read is refused: without it, the token could do more.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_namespace_is_no_missing_one(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let bound = NewToken {
        scopes: TokenScopes::new(vec![TokenScope::Nonces]),
        binding: Some(a_binding("a", 60)),
        ..a_token()
    };
    store
        .create_token(bound.clone(), an_event("onceguard.token.created", &bound.id))
        .await
        .unwrap();
    let raw = store.raw();
    raw.execute(match on {
        Postgres => {
            "ALTER TABLE api_tokens DROP CONSTRAINT api_tokens_bound,
                DROP CONSTRAINT api_tokens_namespace_form, DROP CONSTRAINT api_tokens_max_ttl"
        }
        _ => "PRAGMA ignore_check_constraints = ON",
    })
    .await;
    for sql in ["namespace = NULL", "namespace = 'a b'", "namespace = 'a', max_ttl_seconds = -1"] {
        raw.execute(&format!("UPDATE api_tokens SET {sql}")).await;
        let found = store.tokens(vec![bound.hash]).await.unwrap();
        assert!(found[0].1.is_err(), "{sql}: {found:?}");
        assert_eq!(store.list_tokens().await.unwrap(), []);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_by_the_databases_clock(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let new = NewToken { ttl_seconds: Some(600), ..a_token() };
    let event = an_event("onceguard.token.created", &new.id);
    let created = store.create_token(new.clone(), event).await.unwrap();
    let expires_at = created.expires_at.unwrap();
    assert_eq!(expires_at - created.created_at, chrono::Duration::seconds(600));
    store.pass(minutes(9)).await;
    assert!(store.token(&new.hash).await.unwrap().unwrap().is_valid());
    store.pass(minutes(2)).await;
    assert!(!store.token(&new.hash).await.unwrap().unwrap().is_valid());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_revocation_of_a_token_stands(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let new = a_token();
    store.create_token(new.clone(), an_event("onceguard.token.created", &new.id)).await.unwrap();
    let event = || an_event("onceguard.token.revoked", &new.id);
    let first = store.revoke_token(new.id, event()).await.unwrap().unwrap();
    assert!(first.revoked_at.is_some() && !first.is_valid());
    let again = store.revoke_token(new.id, event()).await.unwrap().unwrap();
    assert_eq!(again.revoked_at, first.revoked_at);
    assert!(!store.token(&new.hash).await.unwrap().unwrap().is_valid());
    let events = store.newest_events(10).await.unwrap();
    assert_eq!(events[0].kind, "onceguard.token.revoked");

    let before = events.len();
    assert_eq!(store.revoke_token(Uuid::now_v7(), event()).await.unwrap(), None);
    assert_eq!(store.newest_events(10).await.unwrap().len(), before, "nothing happened");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_tokens_use_is_recorded(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (used, unused) = (a_token(), a_token());
    for new in [&used, &unused] {
        store
            .create_token(new.clone(), an_event("onceguard.token.created", &new.id))
            .await
            .unwrap();
    }
    let before = store.now().await.unwrap();
    store.token_used(used.id).await.unwrap();
    assert!(store.token(&used.hash).await.unwrap().unwrap().last_used_at.unwrap() >= before);
    assert_eq!(store.token(&unused.hash).await.unwrap().unwrap().last_used_at, None);
    store.token_used(Uuid::now_v7()).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_oldest_first(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(store.list_tokens().await.unwrap(), []);
    let mut ids = Vec::new();
    for _ in 0..3 {
        // Not in the order of the ids.
        let new = NewToken { id: Uuid::new_v4(), ..a_token() };
        ids.push(new.id);
        store
            .create_token(new.clone(), an_event("onceguard.token.created", &new.id))
            .await
            .unwrap();
    }
    store.revoke_token(ids[1], an_event("onceguard.token.revoked", &ids[1])).await.unwrap();
    let listed: Vec<_> = store.list_tokens().await.unwrap().iter().map(|t| t.id).collect();
    assert_eq!(listed, ids);
}
