//! Search by words, and the words of what was stored without them.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::statement::Prepared;
use super::dids::listed;
use super::schema::sessions;
use super::sessions::row::{SessionRow, did};
use crate::domain::{
    Did, Found, FoundId, FoundPlace, Metadata, Page, PageRequest, Search, Searched, SessionId,
    Timestamp, Words,
};
use crate::storage::Result;
use crate::storage::readable::readable;
use crate::storage::search::{Place, page_of};

/// By the indexes of what has no words. The order makes the planner use them, also where it expects many
/// rows.
pub(super) const PENDING: &str = "
    SELECT EXISTS (SELECT FROM (
            SELECT did FROM dids WHERE words IS NULL ORDER BY did LIMIT 1
        ) AS dids)
        OR EXISTS (SELECT FROM (
            SELECT id FROM sessions WHERE words IS NULL AND metadata <> '{}' ORDER BY id LIMIT 1
        ) AS sessions) AS pending";

/// `$4`, `$5` and `$6` are the place after which the page begins.
const FIND: &str = "
    SELECT created_at, did, id, bytes FROM (
        (SELECT created_at, did, NULL::uuid AS id, 0 AS bytes FROM dids
        WHERE $1 AND words @@ $3::tsquery
            AND ($4 IS NULL OR created_at < $4 OR (created_at = $4 AND did < $5))
        ORDER BY created_at DESC, did DESC LIMIT $7)
        UNION ALL
        (SELECT created_at, NULL, id, octet_length(metadata::text) FROM sessions
        WHERE $2 AND words @@ $3::tsquery
            AND ($4 IS NULL OR created_at < $4 OR (created_at = $4 AND ($6 IS NULL OR id < $6)))
        ORDER BY created_at DESC, id DESC LIMIT $7)
    ) AS found
    ORDER BY created_at DESC, id IS NOT NULL, did COLLATE \"C\" DESC, id DESC LIMIT $7";

/// What another transaction has locked comes next time.
const DIDS: &str = "
    SELECT did FROM dids WHERE words IS NULL ORDER BY did LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED";

const SESSIONS: &str = "
    SELECT id, metadata::text AS metadata FROM sessions
    WHERE words IS NULL AND metadata <> '{}' ORDER BY id LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED";

const ADD_TO_DIDS: &str = "
    UPDATE dids SET words = array_to_tsvector(string_to_array(a.words, ' '))
    FROM unnest($1, $2) AS a (did, words) WHERE dids.did = a.did";

const ADD_TO_SESSIONS: &str = "
    UPDATE sessions SET words = array_to_tsvector(string_to_array(a.words, ' '))
    FROM unnest($1, $2) AS a (id, words) WHERE sessions.id = a.id";

#[derive(QueryableByName)]
pub(super) struct Pending {
    #[diesel(sql_type = Bool)]
    pub(super) pending: bool,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = Timestamptz)]
    created_at: Timestamp,
    #[diesel(sql_type = Nullable<Text>)]
    did: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    id: Option<Uuid>,
    #[diesel(sql_type = Integer)]
    bytes: i32,
}

#[derive(QueryableByName)]
struct WordlessDid {
    #[diesel(sql_type = Text)]
    did: String,
}

#[derive(QueryableByName)]
struct WordlessSession {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    metadata: String,
}

impl PostgresStore {
    pub async fn search(&self, search: &Search, page: &PageRequest) -> Result<Searched> {
        let after = page.after.as_ref().map(FoundPlace::try_from).transpose()?;
        self.read("search", async |c| find(c, search, after.as_ref(), page.limit).await).await
    }

    pub async fn index_words(&self, limit: u32) -> Result<u64> {
        self.errand("index_words", async |c| {
            Ok((index_dids(c, limit).await? + index_sessions(c, limit).await?) as u64)
        })
        .await
    }
}

async fn find(
    c: &mut AsyncPgConnection,
    search: &Search,
    after: Option<&FoundPlace>,
    limit: u32,
) -> QueryResult<Searched> {
    let pending: Pending = Prepared(sql_query(PENDING)).get_result(c).await?;
    if pending.pending {
        return Ok(Searched::Indexing);
    }
    let (did, session) = match after.map(|after| &after.id) {
        None => (None, None),
        Some(FoundId::Did(did)) => (Some(did.as_str()), None),
        // No DID of the same time comes after a session.
        Some(FoundId::Session(id)) => (Some(""), Some(id.0)),
    };
    let query = sql_query(FIND)
        .bind::<Bool, _>(search.dids)
        .bind::<Bool, _>(search.sessions)
        .bind::<Text, _>(all_of(&search.words))
        .bind::<Nullable<Timestamptz>, _>(after.map(|after| after.created_at))
        .bind::<Nullable<Text>, _>(did)
        .bind::<Nullable<SqlUuid>, _>(session)
        .bind::<BigInt, _>(i64::from(limit) + 1);
    // Not prepared: how to find words best depends on the words.
    let rows: Vec<PlaceRow> = query.load(c).await?;
    let (places, next) = page_of(rows.into_iter().filter_map(PlaceRow::place).collect(), limit);
    let (mut dids, mut ids) = (Vec::new(), Vec::new());
    for place in &places {
        match &place.id {
            FoundId::Did(did) => dids.push(did.as_str()),
            FoundId::Session(id) => ids.push(id.0),
        }
    }
    let mut dids = listed(c, &dids).await?;
    let rows = sessions::table.filter(sessions::id.eq_any(&ids));
    let rows: Vec<SessionRow> = rows.select(SessionRow::as_select()).load(c).await?;
    let mut sessions: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    // What has gone meanwhile is left out.
    let items = places.iter().filter_map(|place| match &place.id {
        FoundId::Did(did) => dids.remove(did).map(Found::Did),
        FoundId::Session(SessionId(id)) => {
            let row = sessions.remove(id)?;
            readable(row.read(), "session", id).map(Found::Session)
        }
    });
    Ok(Searched::Page(Page { items: items.collect(), next }))
}

impl PlaceRow {
    fn place(self) -> Option<Place> {
        let id = match (self.did, self.id) {
            (Some(did), _) => FoundId::Did(did),
            (None, id) => FoundId::Session(SessionId(id?)),
        };
        let bytes = usize::try_from(self.bytes).unwrap_or(0);
        Some(Place { place: FoundPlace { created_at: self.created_at, id }, bytes })
    }
}

/// A `tsquery` that asks for exactly these words. No word has a quote or a backslash.
fn all_of(words: &Words) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" & ")
}

/// Adds the words of a session's metadata, which has none yet.
pub(super) async fn index_session(
    c: &mut AsyncPgConnection,
    id: SessionId,
    metadata: &Metadata,
) -> QueryResult<()> {
    let Some(words) = spaced(metadata) else { return Ok(()) };
    add_to_sessions(c, &[id.0], &[words]).await.map(drop)
}

async fn index_dids(c: &mut AsyncPgConnection, limit: u32) -> QueryResult<usize> {
    let query = sql_query(DIDS).bind::<BigInt, _>(i64::from(limit));
    let rows: Vec<WordlessDid> = Prepared(query).load(c).await?;
    let words: Vec<_> = rows.iter().map(|row| words_of(&row.did)).collect();
    let dids: Vec<_> = rows.into_iter().map(|row| row.did).collect();
    let add = sql_query(ADD_TO_DIDS).bind::<Array<Text>, _>(dids).bind::<Array<Text>, _>(words);
    Prepared(add).execute(c).await
}

/// A DID that this binary cannot read has no words, and is in no list.
fn words_of(text: &str) -> String {
    did(text).map(|did: Did| Words::of_did(&did).spaced()).unwrap_or_default()
}

async fn index_sessions(c: &mut AsyncPgConnection, limit: u32) -> QueryResult<usize> {
    let query = sql_query(SESSIONS).bind::<BigInt, _>(i64::from(limit));
    let rows: Vec<WordlessSession> = Prepared(query).load(c).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let words = rows.into_iter().map(|row| spaced(&Metadata::kept(row.metadata)));
    let words: Vec<_> = words.map(Option::unwrap_or_default).collect();
    add_to_sessions(c, &ids, &words).await
}

async fn add_to_sessions(
    c: &mut AsyncPgConnection,
    ids: &[Uuid],
    words: &[String],
) -> QueryResult<usize> {
    let add = sql_query(ADD_TO_SESSIONS).bind::<Array<SqlUuid>, _>(ids);
    Prepared(add.bind::<Array<Text>, _>(words)).execute(c).await
}

/// The words of a session's metadata, as statements take them.
pub(super) fn spaced(metadata: &Metadata) -> Option<String> {
    Words::of_metadata(metadata).map(|words| words.spaced())
}
