//! Search by words.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};

use super::SqliteStore;
use super::dids::listed as listed_did;
use super::sessions::lists::listed as listed_session;
use super::types::{number, timestamp, uuid};
use crate::domain::{
    Found, FoundId, FoundPlace, Page, PageRequest, Search, Searched, SessionId, Timestamp, Words,
};
use crate::storage::Result;
use crate::storage::search::{Place, page_of};

pub(super) const PENDING: &str = "
    SELECT EXISTS (SELECT 1 FROM dids INDEXED BY dids_without_words WHERE words IS NULL)
        OR EXISTS (
            SELECT 1 FROM sessions INDEXED BY sessions_without_words
            WHERE words IS NULL AND metadata <> '{}'
        ) AS pending";

/// `?4`, `?5` and `?6` are the place after which the page begins.
const FIND: &str = "
    SELECT created_at, did, id, bytes FROM (
        SELECT created_at, did, NULL AS id, 0 AS bytes FROM dids
        WHERE ?1 AND words IN (SELECT rowid FROM search WHERE search MATCH ?3)
            AND (?4 IS NULL OR created_at < ?4 OR (created_at = ?4 AND did < ?5))
        UNION ALL
        SELECT created_at, NULL, id, octet_length(metadata) FROM sessions
        WHERE ?2 AND words IN (SELECT rowid FROM search WHERE search MATCH ?3)
            AND (?4 IS NULL OR created_at < ?4 OR (created_at = ?4 AND (?6 IS NULL OR id < ?6)))
    )
    ORDER BY created_at DESC, id IS NOT NULL, did DESC, id DESC LIMIT ?7";

#[derive(QueryableByName)]
pub(super) struct Pending {
    #[diesel(sql_type = Bool)]
    pub(super) pending: bool,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    created_at: i64,
    #[diesel(sql_type = Nullable<Text>)]
    did: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    id: Option<Vec<u8>>,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl SqliteStore {
    pub async fn search(&self, search: &Search, page: &PageRequest) -> Result<Searched> {
        let after = page.after.as_ref().map(FoundPlace::try_from).transpose()?;
        let (search, limit) = (search.clone(), page.limit);
        let find = move |conn: &mut _, now| find(conn, now, &search, after.as_ref(), limit);
        self.0.read("search", find).await
    }
}

fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    search: &Search,
    after: Option<&FoundPlace>,
    limit: u32,
) -> QueryResult<Searched> {
    let pending: Pending = diesel::sql_query(PENDING).get_result(conn)?;
    if pending.pending {
        return Ok(Searched::Indexing);
    }
    let (did, session) = match after.map(|after| &after.id) {
        None => (None, None),
        Some(FoundId::Did(did)) => (Some(did.as_str()), None),
        // No DID of the same time comes after a session.
        Some(FoundId::Session(id)) => (Some(""), Some(id.0.as_bytes().as_slice())),
    };
    let rows: Vec<PlaceRow> = diesel::sql_query(FIND)
        .bind::<Bool, _>(search.dids)
        .bind::<Bool, _>(search.sessions)
        .bind::<Text, _>(all_of(&search.words))
        .bind::<Nullable<BigInt>, _>(after.map(|after| after.created_at.timestamp_micros()))
        .bind::<Nullable<Text>, _>(did)
        .bind::<Nullable<Binary>, _>(session)
        .bind::<BigInt, _>(i64::from(limit) + 1)
        .load(conn)?;
    let places = rows.into_iter().map(PlaceRow::place).collect::<QueryResult<_>>()?;
    let (places, next) = page_of(places, limit);
    let mut items = Vec::with_capacity(places.len());
    for place in &places {
        items.extend(match &place.id {
            FoundId::Did(did) => listed_did(conn, now, did)?.map(Found::Did),
            FoundId::Session(id) => listed_session(conn, now, *id)?.map(Found::Session),
        });
    }
    Ok(Searched::Page(Page { items, next }))
}

impl PlaceRow {
    fn place(self) -> QueryResult<Place> {
        let id = match (self.did, self.id) {
            (Some(did), _) => FoundId::Did(did),
            (None, id) => FoundId::Session(SessionId(uuid(&id.unwrap_or_default())?)),
        };
        let created_at = timestamp(self.created_at)?;
        Ok(Place { place: FoundPlace { created_at, id }, bytes: number(self.bytes)? })
    }
}

/// A query of FTS5 that asks for exactly these words. No word has a quote.
fn all_of(words: &Words) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" AND ")
}
