//! Dumps: what an archive is made of has every row, in one form for both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use onceguard::config::{OnCut, Replication};
use onceguard::domain::{
    Actor, EventData, Metadata, NewDid, NewRecord, NewSession, Precondition, PublicationKey,
    SessionId, Timestamp, TokenScope, TokenScopes, WebhookSignature, WebhookState,
};
use onceguard::services::Tokens;
use onceguard::storage::tables::{Column, Kind, NOT_ARCHIVED, TABLES, Table};
use onceguard::storage::{
    AttemptOutcome, Attempted, NewWebhook, Pace, RecordWriter, Recovery, Store, StoreError,
    WebhookChange,
};
use rstest::rstest;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    RawSql, TestStore, a_binding, a_change, a_did, a_new_did, a_new_record, a_nonce, a_reading,
    a_record_key, a_sealed_key, a_session, an_event, by_signer, changed, claim, did, hex,
    in_seconds, in_session, joining, minutes, no_limits, opened, with_key,
};

type Rows = BTreeMap<&'static str, Vec<Map<String, Value>>>;

/// Every row of a dump, by table.
async fn dumped(store: &Store) -> Rows {
    let mut rows = Rows::new();
    let mut dump = store.dump(Pace::Beside).await.unwrap();
    while let Some(chunk) = dump.next().await.unwrap() {
        assert!(chunk.lines.ends_with(b"\n"));
        let lines = std::str::from_utf8(&chunk.lines).unwrap().lines();
        let read: Vec<_> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.len() as u64, chunk.rows);
        assert!(read.len() <= 10_000, "{}", read.len());
        rows.entry(chunk.table).or_default().extend(read);
    }
    rows
}

/// Rows of every table and, of columns that may be empty, both with a value and without.
async fn fill(store: &TestStore) {
    let awkward = json!({
        "quotes": "' \" \\ \n \u{1} é 😀", "list": [1, 2.5, null, {"a": true}], "": {},
    });
    let full = NewSession {
        session_key: Some(a_sealed_key("key-1")),
        idle_timeout_seconds: Some(600),
        max_claims: Some(10),
        metadata: Metadata::parse(&to_raw_value(&awkward).unwrap()).unwrap(),
        user_agent: Some("agent's \"browser\" \\ é".to_owned()),
        ip_address: Some("2001:db8::1".parse().unwrap()),
        ..a_session()
    };
    let expires_at = in_seconds(store, 60).await;
    claim(store, &by_signer(&a_did(), a_nonce(), expires_at)).await;
    claim(store, &with_key(by_signer(&a_did(), a_nonce(), expires_at), 0x0f)).await;
    // Twice, so that there is more than one ancestor; before sessions, since it wipes keys.
    for _ in 0..2 {
        let now = store.now().await.unwrap();
        let recovery = Recovery {
            skew: minutes(1),
            now,
            issued_until: None,
            clock_was_at: Some(now),
            actor: Actor::Operator,
            remembered: Vec::new(),
        };
        store.recover(recovery).await.unwrap();
    }
    let purged = store.raw().time(store.now().await.unwrap());
    store.raw().execute(&format!("UPDATE history SET purged_until = {purged}")).await;
    let session = opened(store, full).await;
    let v4 = NewSession { ip_address: Some("203.0.113.9".parse().unwrap()), ..a_session() };
    let other = opened(store, v4).await;
    claim(store, &in_session(session.id, a_nonce())).await;
    claim(store, &with_key(in_session(other.id, a_nonce()), 0xa7)).await;
    let event = || an_event("onceguard.did.stored", &"x");
    let stored = NewDid { owner_address: Some("0xabc".to_owned()), ..a_new_did() };
    store.put_did(stored, event()).await.unwrap();
    store.revoke_did(&did("did:web:revoked.example"), event()).await.unwrap();
    let reading = a_reading(store, &did("did:web:read.example"), 3).await;
    store.record_did(reading).await.unwrap();
    fill_records(store).await;
    fill_webhooks(store).await;
    let tokens = Tokens::new((**store).clone(), store.clock().clone());
    let scopes = TokenScopes::new(vec![TokenScope::Sessions, TokenScope::Dids]);
    let actor = Actor::Operator;
    tokens.create("one", scopes.clone(), None, Some(60), actor.clone()).await.unwrap();
    let bound = Some(a_binding("https://a.example/'\"\\", 60));
    let nonces = TokenScopes::new(vec![TokenScope::Nonces]);
    tokens.create("bound", nonces, bound, None, actor.clone()).await.unwrap();
    let (token, _) = tokens.create("two", scopes, None, None, actor.clone()).await.unwrap();
    tokens.revoke(token.id, actor).await.unwrap();
    store.join(joining(Replication::Asynchronous, OnCut::Recover)).await.unwrap();
    store.depart().await.unwrap();
    store.take_lease("job", "me", minutes(1)).await.unwrap();
    store.release_lease("job", "me", true).await.unwrap();
    store.add_sealing_key("key-1", b"check").await.unwrap();
    for sql in [
        format!("UPDATE instances SET issued_until = {purged}"),
        format!("UPDATE api_tokens SET last_used_at = {purged} WHERE name = 'one'"),
        "UPDATE dids SET gone = 'not_found', version = 7 WHERE source = 'web'".to_owned(),
        format!(
            "UPDATE sessions SET ended_at = {purged}, end_reason = 'ended' WHERE id = {}",
            store.raw().id(other.id)
        ),
    ] {
        store.raw().execute(&sql).await;
    }
}

/// Records with everything, with nothing, deleted, and erased.
async fn fill_records(store: &TestStore) {
    let (owner, erased) = (a_did(), a_did());
    let key = a_record_key("sync", "full\"'\\");
    let full = NewRecord {
        client_time: Some(in_seconds(store, -60).await),
        metadata: Metadata::parse(&to_raw_value(&json!({"device": "' \" é"})).unwrap()).unwrap(),
        expires_at: Some(in_seconds(store, 60).await),
        ..a_new_record(b"\x00sealed\xff")
    };
    let bare = a_record_key("key", "bare");
    let gone = a_record_key("key", "gone");
    let new = || Some(a_new_record(b"x"));
    changed(store, &owner, a_change(&key, Precondition::Absent, Some(full))).await;
    changed(store, &owner, a_change(&bare, Precondition::Absent, new())).await;
    changed(store, &owner, a_change(&gone, Precondition::Absent, new())).await;
    changed(store, &owner, a_change(&gone, Precondition::Present, None)).await;
    let puts = vec![a_change(&bare, Precondition::Absent, new())];
    store.change_records(&erased, RecordWriter::Agent, puts, no_limits()).await.unwrap();
    store.erase_records(&erased, None, an_event("onceguard.records.deleted", &"x")).await.unwrap();
    store.publish(vec![an_event("test.called", &"x").asked_by(Some("r-1".into()))]).await.unwrap();
    let key = PublicationKey { digest: [5; 16], content: [6; 32] };
    let called = || an_event("test.called", &"y");
    store.publish_once(vec![called(), called()], key).await.unwrap();
    store.sign_head().await;
}

/// A webhook with reasons, and deliveries of all states.
async fn fill_webhooks(store: &TestStore) {
    let new = NewWebhook {
        id: Uuid::now_v7(),
        name: Some("shop".to_owned()),
        url: "https://receiver.example/?a='b".to_owned(),
        types: vec!["*".to_owned(), "test.called".to_owned()],
        signature: WebhookSignature::V1a,
        secret: a_sealed_key("key-1"),
    };
    let id = new.id;
    let event = || an_event("onceguard.webhook.created", &"x");
    store.create_webhook(new, event()).await.unwrap().unwrap();
    store.publish(vec![event(), event()]).await.unwrap();
    store.sign_head().await;
    while store.hand_events().await.unwrap() > 0 {}
    let due = store.take_deliveries(vec![(id, 2)], minutes(1)).await.unwrap();
    let outcomes = [AttemptOutcome::Delivered, AttemptOutcome::Dead];
    let attempts = due.into_iter().zip(outcomes).map(|(due, outcome)| {
        let error = Some("answers '500'".to_owned());
        Attempted { due, outcome, status: Some(500), error }
    });
    store.finish_deliveries(attempts.collect()).await.unwrap();
    let state = Some((WebhookState::Paused, Some("a reason".to_owned())));
    let change = WebhookChange { state, ..WebhookChange::default() };
    store.change_webhook(id, change, event()).await.unwrap().unwrap();
}

/// The value as SQL that compares with the column.
fn condition(raw: &RawSql, column: &Column, value: &Value) -> String {
    let Column { name, kind } = column;
    let sqlite = matches!(raw, RawSql::Sqlite(_));
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let text = || quoted(value.as_str().unwrap());
    if value.is_null() {
        return format!("{name} IS NULL");
    }
    match kind {
        Kind::Text => format!("{name} = {}", text()),
        Kind::Number => format!("{name} = {}", value.as_i64().unwrap()),
        Kind::Bool if sqlite => format!("{name} = {}", u8::from(value.as_bool().unwrap())),
        Kind::Bool => format!("{name} = {}", value.as_bool().unwrap()),
        Kind::Bytes | Kind::Ids if sqlite => format!("{name} = x{}", text()),
        Kind::Bytes => format!("{name} = decode({}, 'hex')", text()),
        Kind::Id => {
            let id = Uuid::parse_str(value.as_str().unwrap()).unwrap();
            format!("{name} = {}", raw.id(SessionId(id)))
        }
        Kind::Ids => format!(
            "decode(replace(array_to_string({name}, ''), '-', ''), 'hex') = decode({}, 'hex')",
            text()
        ),
        Kind::Time => {
            let time = Timestamp::from_timestamp_micros(value.as_i64().unwrap()).unwrap();
            format!("{name} = {}", raw.time(time))
        }
        // Members have another order here, but for events they are in the one form.
        Kind::Json if sqlite => {
            let form = EventData::kept(value.to_string());
            let forms =
                [&value.to_string(), form.as_str()].map(|form| format!("json({})", quoted(form)));
            format!("json({name}) IN ({})", forms.join(", "))
        }
        Kind::Json => format!("{name} = {}::jsonb", quoted(&value.to_string())),
        Kind::Words if sqlite => format!("{name} = {}", quoted(&value.to_string())),
        Kind::Words => {
            let words = value.as_array().unwrap().iter().map(|word| word.as_str().unwrap());
            format!("{name} = '{{{}}}'", words.collect::<Vec<_>>().join(","))
        }
        Kind::Address if sqlite => format!("{name} = {}", text()),
        Kind::Address => format!("{name} = {}::inet", text()),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_the_database_row_by_row(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    fill(&store).await;
    let rows = dumped(&store).await;
    let mut untried = Vec::new();
    for Table { name, columns } in &TABLES {
        let rows = &rows[name];
        let all = store.raw().number(&format!("count(*) FROM {name}")).await;
        assert_eq!(i64::try_from(rows.len()).unwrap(), all, "{name}");
        for row in rows {
            let names: BTreeSet<_> = row.keys().map(String::as_str).collect();
            assert_eq!(names, columns.iter().map(|column| column.name).collect(), "{name}");
            let conditions: Vec<_> = columns
                .iter()
                .map(|column| condition(store.raw(), column, &row[column.name]))
                .collect();
            let same = format!("count(*) FROM {name} WHERE {}", conditions.join(" AND "));
            assert_eq!(store.raw().number(&same).await, 1, "{same}");
        }
        for column in *columns {
            let empty = rows.iter().filter(|row| row[column.name].is_null()).count();
            if empty == rows.len() {
                untried.push(format!("{name}.{}", column.name));
            }
        }
    }
    assert!(untried.is_empty(), "never with a value: {untried:?}");
}

const OF_THE_SERVER: [&str; 7] = [
    "history.system_identifier",
    "history.timeline",
    "history.database_oid",
    "history.nonces_oid",
    "marks.id",
    "marks.instance",
    "marks.value",
];

/// A migration that adds a table or a column has to say how archives hold it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_column_of_every_table_is_in_a_dump(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let columns = match on {
        Postgres => {
            "string_agg(table_name || '.' || column_name, ',') FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_%'"
        }
        _ => {
            "group_concat(t.name || '.' || c.name) FROM sqlite_schema AS t \
             JOIN pragma_table_info(t.name) AS c WHERE t.type IN ('table', 'view') AND t.name NOT LIKE '\\_\\_%' \
             ESCAPE '\\'"
        }
    };
    let there = store.raw().text(columns).await;
    let archived = |column: &&str| column.split('.').next() != Some(NOT_ARCHIVED);
    let of_search = |column: &&str| column.starts_with("search");
    let there = there.split(',').filter(|column| archived(column) && !of_search(column));
    let there: BTreeSet<_> = there.map(str::to_owned).collect();
    let told: BTreeSet<_> = TABLES
        .iter()
        .flat_map(|table| {
            table.columns.iter().map(|column| format!("{}.{}", table.name, column.name))
        })
        .chain(["history.only_row", "event_chain.only_row"].map(str::to_owned))
        // The index of the search is made from the rest.
        .chain(["dids.words", "sessions.words"].map(str::to_owned))
        // They mean something only on the server itself.
        .chain(there.iter().filter(|column| OF_THE_SERVER.contains(&column.as_str())).cloned())
        .collect();
    // A dump has these as `nonces`, which is a view of them.
    let of_sqlite = [
        "sessions.number",
        "session_nonces.session",
        "session_nonces.nonce",
        "session_nonces.used_at",
        "session_nonces.idempotency",
    ];
    let behind = if on == Sqlite { &of_sqlite[..] } else { &[] };
    let behind: BTreeSet<_> = behind.iter().map(ToString::to_string).collect();
    assert_eq!(told.union(&behind).cloned().collect::<BTreeSet<_>>(), there);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_come_in_chunks(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let fill = match on {
        Postgres => {
            "INSERT INTO signer_nonces (signer, nonce, used_at, expires_at) \
             SELECT decode(md5('x'), 'hex'), 'n' || i, now(), now() + interval '1 h' \
             FROM generate_series(1, 25000) AS i"
        }
        _ => {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) \
             INSERT INTO signer_nonces (signer, nonce, used_at, expires_at) \
             SELECT x'00112233445566778899aabbccddeeff', 'n' || i, 1, 2 FROM n"
        }
    };
    store.raw().execute(fill).await;
    let rows = dumped(&store).await;
    let nonces: BTreeSet<_> =
        rows["signer_nonces"].iter().map(|row| row["nonce"].as_str().unwrap().to_owned()).collect();
    assert_eq!(nonces, (1..=25_000).map(|n| format!("n{n}")).collect());
}

/// What was accepted before is in it; what it has of a session's nonces fits the count of claims.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_of_one_moment_beside_claims(#[values(Sqlite, Postgres)] on: Database) {
    let store = Arc::new(on.store().await);
    let limited = NewSession { max_claims: Some(1_000_000), ..a_session() };
    let session = opened(&store, limited).await;
    let (accepted, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let claiming = tokio::spawn({
        let (store, accepted, stop) = (store.clone(), accepted.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let nonce = a_nonce();
                let outcome = claim(&store, &in_session(session.id, nonce.clone())).await;
                assert_eq!(outcome.as_str(), "accepted");
                accepted.lock().unwrap().push(nonce.as_str().to_owned());
            }
        }
    });
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let before = accepted.lock().unwrap().clone();
        let rows = dumped(&store).await;
        let nonces = rows.get("nonces").map_or(&[][..], Vec::as_slice);
        let held: BTreeSet<_> = nonces.iter().map(|row| row["nonce"].as_str().unwrap()).collect();
        let missing: Vec<_> = before.iter().filter(|n| !held.contains(n.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(rows["sessions"][0]["claims"], held.len(), "two moments");
    }
    stop.store(true, Ordering::Relaxed);
    claiming.await.unwrap();
    assert!(accepted.lock().unwrap().len() > 20);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_older_schema_is_not_dumped(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000001')";
    store.raw().execute(newer).await;
    let refused = store.dump(Pace::Beside).await.err();
    assert!(
        matches!(&refused, Some(StoreError::Unsuitable(why)) if why.contains("99991231000001"))
    );

    let older = on.unmigrated().await;
    assert!(matches!(older.dump(Pace::Beside).await.err(), Some(StoreError::Migration(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_memory_has_no_dump() {
    let refused = Memory.store().await.dump(Pace::Beside).await.err();
    assert!(matches!(refused, Some(StoreError::Unsuitable(_))), "{refused:?}");
}

/// Secrets are in it only as the database has them: sealed, or hashed.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_no_secret_in_the_clear(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let tokens = Tokens::new((*store).clone(), store.clock().clone());
    let scopes = TokenScopes::new(vec![TokenScope::Admin]);
    let (token, text) = tokens.create("x", scopes, None, None, Actor::Operator).await.unwrap();
    let rows = dumped(&store).await;
    let all = json!(rows).to_string();
    assert!(!all.contains(text.expose()));
    let row = rows["api_tokens"].iter().find(|row| row["id"] == hex(token.id.as_bytes())).unwrap();
    assert_eq!(row["hash"].as_str().unwrap().len(), 64);
}
