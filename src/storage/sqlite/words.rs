//! The words that a search finds. A row of the table `search` has the words of one DID or session,
//! which names it. Triggers remove it with what it is of.

use diesel::prelude::*;
use diesel::sql_types::{Binary, Bool, Text};

use super::SqliteStore;
use super::schema::{dids, sessions};
use super::types;
use crate::domain::{Did, Metadata, Words};
use crate::storage::Result;

const ADD: &str = "INSERT INTO search (words) VALUES (?)";
const ADD_TO_DID: &str = "UPDATE dids SET words = last_insert_rowid() WHERE did = ?";
const ADD_TO_SESSION: &str = "UPDATE sessions SET words = last_insert_rowid() WHERE id = ?";

impl SqliteStore {
    pub async fn index_words(&self, limit: u32) -> Result<u64> {
        self.0.write("index_words", move |conn, _| index(conn, limit.into())).await
    }
}

/// Adds the words of a DID that may have been stored right now.
pub(super) fn index_did(conn: &mut SqliteConnection, did: &Did) -> QueryResult<()> {
    let row = dids::table.find(did.as_str()).filter(dids::words.is_null());
    if row.select(dids::created_at).get_result::<i64>(conn).optional()?.is_some() {
        add_did(conn, did.as_str(), &Words::of_did(did))?;
    }
    Ok(())
}

/// Adds the words of a session's metadata, which has none yet.
pub(super) fn index_session(
    conn: &mut SqliteConnection,
    id: &[u8],
    metadata: &Metadata,
) -> QueryResult<()> {
    let Some(words) = Words::of_metadata(metadata) else { return Ok(()) };
    diesel::sql_query(ADD).bind::<Text, _>(words.spaced()).execute(conn)?;
    diesel::sql_query(ADD_TO_SESSION).bind::<Binary, _>(id).execute(conn).map(drop)
}

fn add_did(conn: &mut SqliteConnection, did: &str, words: &Words) -> QueryResult<()> {
    diesel::sql_query(ADD).bind::<Text, _>(words.spaced()).execute(conn)?;
    diesel::sql_query(ADD_TO_DID).bind::<Text, _>(did).execute(conn).map(drop)
}

fn index(conn: &mut SqliteConnection, limit: i64) -> QueryResult<u64> {
    let wordless = dids::table.filter(dids::words.is_null()).order(dids::did);
    let names: Vec<String> = wordless.select(dids::did).limit(limit).load(conn)?;
    for name in &names {
        // A DID that this binary cannot read has no words, and is in no list.
        let words = types::did(name).map(|did| Words::of_did(&did)).unwrap_or_default();
        add_did(conn, name, &words)?;
    }
    let wordless = sessions::table.filter(sessions::words.is_null());
    let wordless = wordless.filter(diesel::dsl::sql::<Bool>("metadata <> '{}'"));
    let rows: Vec<(Vec<u8>, String)> = wordless
        .order(sessions::id)
        .select((sessions::id, sessions::metadata))
        .limit(limit)
        .load(conn)?;
    for (id, metadata) in &rows {
        index_session(conn, id, &Metadata::kept(metadata.clone()))?;
    }
    Ok((names.len() + rows.len()) as u64)
}
