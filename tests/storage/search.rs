//! Search: the same questions to both databases, whose answers are those of a model that looks at
//! everything.

use std::collections::BTreeSet;

use onceguard::domain::{
    Cursor, Did, Found, Metadata, NewDid, NewSession, PageRequest, Search, Searched, SessionId,
    SessionPatch, Timestamp, Words,
};
use onceguard::storage::{PurgeStep, Store};
use rstest::rstest;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_new_did, a_public_key, a_reading, a_session, an_event, did, minutes, opened,
    purge_batch,
};

/// Words and what stands between them, as people and machines write them.
const VOCABULARY: [&str; 20] = [
    "alpha",
    "Alpha",
    "ALPHABET",
    "beta-7",
    "beta_8",
    "gamma.delta",
    "über",
    "Über",
    "straße",
    "ΟΔΟΣ",
    "注文",
    "7番",
    "42",
    "42.50",
    "it's",
    "a\"b\\c",
    "null",
    "or",
    "NOT",
    "*",
];

fn metadata(value: &serde_json::Value) -> Metadata {
    Metadata::parse(&to_raw_value(value).unwrap()).unwrap()
}

fn asked(text: &str) -> Search {
    Search { words: Words::asked(text).unwrap(), dids: true, sessions: true }
}

async fn pages(store: &Store, search: &Search, limit: u32) -> Vec<Vec<Found>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = match store.search(search, &PageRequest { limit, after }).await.unwrap() {
            Searched::Page(page) => page,
            Searched::Indexing => panic!("words are missing"),
        };
        assert!(page.items.len() <= limit as usize);
        pages.push(page.items);
        let Some(next) = page.next else { return pages };
        // A caller carries the cursor as text.
        after = Some(Cursor::parse(&next.encode()).unwrap());
        assert!(pages.len() < 1_000, "a search that never ends");
    }
}

async fn names(store: &Store, search: &Search) -> Vec<String> {
    pages(store, search, 500).await.concat().iter().map(name).collect()
}

fn name(found: &Found) -> String {
    match found {
        Found::Did(record) => record.did.to_string(),
        Found::Session(session) => session.id.to_string(),
    }
}

/// Everything that a search could find.
#[derive(Default)]
struct Model {
    dids: Vec<(Timestamp, Did)>,
    sessions: Vec<(Timestamp, SessionId, String)>,
}

impl Model {
    fn answer(&self, question: &str, dids: bool, sessions: bool) -> Vec<String> {
        fn split(text: &str) -> BTreeSet<String> {
            let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
            words.filter(|word| !word.is_empty()).collect()
        }
        let wanted = split(question);
        let mut found = Vec::new();
        for (at, did) in self.dids.iter().filter(|_| dids) {
            if wanted.is_subset(&split(did.as_str())) {
                found.push((*at, 1, did.to_string()));
            }
        }
        for (at, id, text) in self.sessions.iter().filter(|_| sessions) {
            if wanted.is_subset(&split(text)) {
                found.push((*at, 0, id.to_string()));
            }
        }
        found.sort_unstable();
        found.reverse();
        found.into_iter().map(|(_, _, name)| name).collect()
    }
}

/// Chooses in one and the same way on each database.
struct Choice(fastrand::Rng);

impl Choice {
    fn text(&mut self) -> String {
        let words: Vec<_> =
            (0..self.0.usize(1..4)).map(|_| VOCABULARY[self.0.usize(..VOCABULARY.len())]).collect();
        words.join([" ", ", ", "/"][self.0.usize(..3)])
    }

    /// Metadata, and all that is to be found in it.
    fn metadata(&mut self) -> (Metadata, String) {
        let (one, two, three) = (self.text(), self.text(), self.text());
        let number = self.0.u8(..);
        let value = json!({ &one: [{ "note": &two, "n": number }, true, null], "second": &three });
        (metadata(&value), format!("{one} note {two} n {number} second {three}"))
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_a_model_finds(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (mut choice, mut model) = (Choice(fastrand::Rng::with_seed(7)), Model::default());
    for number in 0..40 {
        let (metadata, text) = choice.metadata();
        let session = opened(&store, NewSession { metadata, ..a_session() }).await;
        model.sessions.push((session.created_at, session.id, text));
        // One without metadata is never found.
        opened(&store, a_session()).await;
        let word = ["Alpha", "beta_8", "42", "or"][choice.0.usize(..4)];
        let did = did(&format!("did:web:agent-{number}.example:{word}"));
        match choice.0.usize(..3) {
            0 => {
                let new = NewDid { did: did.clone(), ..a_new_did() };
                store.put_did(new, an_event("onceguard.did.stored", &did)).await.map(drop)
            }
            1 => store.record_did(a_reading(&store, &did, 1).await).await.map(drop),
            _ => store.revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.map(drop),
        }
        .unwrap();
        let stored = store.did(&did).await.unwrap().unwrap();
        model.dids.push((stored.created_at, did));
    }
    // Metadata changes, and changes to what it is.
    for _ in 0..20 {
        let at = choice.0.usize(..model.sessions.len());
        let (new, text) = choice.metadata();
        let patch = SessionPatch { metadata: Some(new), ..SessionPatch::default() };
        store.update_session(model.sessions[at].1, patch.clone()).await.unwrap();
        store.update_session(model.sessions[at].1, patch).await.unwrap();
        model.sessions[at].2 = text;
    }
    let all: Vec<_> = model.sessions.iter().map(|(_, id, _)| *id).collect();
    let none = SessionPatch { metadata: Some(Metadata::default()), ..SessionPatch::default() };
    store.update_session(all[0], none).await.unwrap();
    // What is erased or forgotten leaves the index.
    let erased = store.session(all[1]).await.unwrap().unwrap();
    store.erase_sessions(&erased.client_did, 10).await.unwrap();
    model.sessions.drain(..2);
    let forgotten = loop {
        let at = choice.0.usize(..model.dids.len());
        let did = model.dids[at].1.clone();
        if store.did(&did).await.unwrap().unwrap().revoked_at.is_none() {
            break model.dids.remove(at).1;
        }
    };
    let event = an_event("onceguard.did.forgotten", &forgotten);
    store.forget_did(&forgotten, event).await.unwrap();

    let mut answered = 0;
    for _ in 0..300 {
        let question = choice.text();
        let Ok(words) = Words::asked(&question) else { continue };
        let (dids, sessions) = (choice.0.bool(), choice.0.bool());
        let limit = [1, 2, 7, 500][choice.0.usize(..4)];
        let search = Search { words, dids, sessions };
        let found: Vec<_> = pages(&store, &search, limit).await.concat().iter().map(name).collect();
        let expected = model.answer(&question, dids, sessions);
        assert_eq!(found, expected, "{question:?} {dids} {sessions} {limit}");
        answered += usize::from(!expected.is_empty());
    }
    assert!(answered > 50, "few questions have an answer: {answered}");
    for (_, did) in &model.dids {
        assert!(names(&store, &asked(did.as_str())).await.contains(&did.to_string()));
    }
    assert_eq!(names(&store, &asked("did")).await, model.answer("did", true, true));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn equal_times_neither_repeat_nor_hide(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(1, 2, 5)] limit: u32,
) {
    let store = on.store().await;
    let mut expected = Vec::new();
    for number in 0..6 {
        let word = metadata(&json!({"word": "same"}));
        let session = opened(&store, NewSession { metadata: word, ..a_session() }).await;
        let did = did(&format!("did:web:same:{number}"));
        store.record_did(a_reading(&store, &did, 1).await).await.unwrap();
        expected.push((1, did.to_string()));
        expected.push((0, session.id.to_string()));
    }
    let first = "SET created_at = (SELECT min(created_at) FROM sessions)";
    store.raw().execute(&format!("UPDATE dids {first}; UPDATE sessions {first}")).await;
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().rev().map(|(_, name)| name).collect();
    let found = pages(&store, &asked("same"), limit).await.concat();
    assert_eq!(found.iter().map(name).collect::<Vec<_>>(), expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_metadata_is_in_no_index(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    opened(&store, a_session()).await;
    assert_eq!(store.raw().number("count(*) FROM sessions WHERE words IS NOT NULL").await, 0);
    if on == Sqlite {
        assert_eq!(store.raw().number("count(*) FROM search").await, 0);
    }
    assert_eq!(names(&store, &asked("example")).await, Vec::<String>::new());
    assert_eq!(store.index_words(10).await.unwrap(), 0);
}

/// What takes the words of everything away, as a restore does, or an older version.
async fn without_words(store: &TestStore, on: Database) {
    let forget = "UPDATE dids SET words = NULL; UPDATE sessions SET words = NULL;";
    let empty = if on == Sqlite { "DELETE FROM search;" } else { "" };
    store.raw().execute(&format!("{forget} {empty}")).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_words_yet_refuses_a_search_until_it_has(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let new = NewSession { metadata: metadata(&json!({"note": "kept"})), ..a_session() };
    let session = opened(&store, new).await;
    let wordless = NewSession { metadata: metadata(&json!({"": "--"})), ..a_session() };
    opened(&store, wordless).await;
    let kept = did("did:web:kept.example");
    store.record_did(a_reading(&store, &kept, 1).await).await.unwrap();
    store.pass(minutes(1)).await;
    let before = store.did(&kept).await.unwrap().unwrap();
    let found = names(&store, &asked("kept")).await;
    assert_eq!(found, [kept.to_string(), session.id.to_string()]);

    let page = PageRequest { limit: 10, after: None };
    without_words(&store, on).await;
    assert_eq!(store.search(&asked("kept"), &page).await.unwrap(), Searched::Indexing);
    // A DID and two sessions, of each table one at a time.
    let mut added = Vec::new();
    for _ in 0..3 {
        added.push(store.index_words(1).await.unwrap());
    }
    assert_eq!(added, [2, 1, 0]);
    assert_eq!(names(&store, &asked("kept")).await, found);
    let after = store.did(&kept).await.unwrap().unwrap();
    assert_eq!(after.updated_at, before.updated_at, "a DID does not change by being found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn words_leave_with_metadata_that_is_changed_by_hand(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let new = NewSession { metadata: metadata(&json!({"note": "before"})), ..a_session() };
    let session = opened(&store, new).await;
    store.raw().execute(r#"UPDATE sessions SET metadata = '{"note": "after"}'"#).await;
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(store.search(&asked("before"), &page).await.unwrap(), Searched::Indexing);
    store.index_words(10).await.unwrap();
    assert_eq!(names(&store, &asked("before")).await, Vec::<String>::new());
    assert_eq!(names(&store, &asked("after")).await, [session.id.to_string()]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn purged_sessions_and_dids_leave_the_index(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let new = NewSession { metadata: metadata(&json!({"note": "gone"})), ..a_session() };
    opened(&store, new).await;
    let gone = did("did:web:gone.example");
    store.record_did(a_reading(&store, &gone, 1).await).await.unwrap();
    store.pass(minutes(120)).await;
    assert_eq!(names(&store, &asked("gone")).await.len(), 2);
    purge_batch(&store, PurgeStep::EndOverdueSessions, 10).await;
    let retention = minutes(0);
    purge_batch(&store, PurgeStep::DeleteEndedSessions { retention }, 10).await;
    purge_batch(&store, PurgeStep::DeleteUnusedDids { unused: minutes(1) }, 10).await;
    assert_eq!(names(&store, &asked("gone")).await, Vec::<String>::new());
    if on == Sqlite {
        assert_eq!(store.raw().number("count(*) FROM search").await, 0);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_schema_holds_is_found_later(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let new = NewSession { metadata: metadata(&json!({"note": "old"})), ..a_session() };
    let session = opened(&store, new).await;
    let old = did("did:web:old.example");
    let new = NewDid { did: old.clone(), key: a_public_key(1), owner_address: None };
    store.put_did(new, an_event("onceguard.did.stored", &old)).await.unwrap();
    let before = store.did(&old).await.unwrap().unwrap();
    let reverted = store.migrate_down(Some(2)).await.unwrap();
    assert_eq!(reverted[1], "2026-12-01-000170_search");
    store.migrate_up().await.unwrap();
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(store.search(&asked("old"), &page).await.unwrap(), Searched::Indexing);
    assert_eq!(store.index_words(10).await.unwrap(), 2);
    assert_eq!(names(&store, &asked("old")).await, [old.to_string(), session.id.to_string()]);
    assert_eq!(store.did(&old).await.unwrap().unwrap().updated_at, before.updated_at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_spoils_no_search(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let new = NewSession { metadata: metadata(&json!({"note": "kept"})), ..a_session() };
        ids.push(opened(&store, new).await.id);
    }
    let broken = store.raw().id(ids[1]);
    let sql = format!("UPDATE sessions SET client_did = 'nonsense' WHERE id = {broken}");
    store.raw().execute(&sql).await;
    let expected = [ids[2].to_string(), ids[0].to_string()];
    assert_eq!(names(&store, &asked("kept")).await, expected);
}
