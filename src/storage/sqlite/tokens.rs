//! API tokens, by their hash.

use chrono::Duration;
use diesel::prelude::*;
use uuid::Uuid;

use super::schema::api_tokens;
use super::types::{optional_timestamp, timestamp, unreadable, uuid};
use super::{SqliteStore, events};
use crate::domain::{ApiToken, NewEvent, NewToken, Timestamp, TokenHash, TokenScope, TokenScopes};
use crate::storage::readable::readable;
use crate::storage::tokens::binding;
use crate::storage::{Result, StoreError};

impl SqliteStore {
    pub async fn create_token(&self, new: NewToken, audit: NewEvent) -> Result<ApiToken> {
        self.0.write("create_token", move |conn, now| create(conn, now, &new, &audit)).await
    }

    pub async fn tokens(
        &self,
        hashes: Vec<TokenHash>,
    ) -> Result<Vec<(TokenHash, Result<ApiToken>)>> {
        self.0.read("tokens", move |conn, now| find_by_hashes(conn, now, &hashes)).await
    }

    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        self.0.read("list_tokens", list).await
    }

    pub async fn revoke_token(&self, id: Uuid, audit: NewEvent) -> Result<Option<ApiToken>> {
        self.0.write("revoke_token", move |conn, now| revoke(conn, now, id, &audit)).await
    }

    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        self.0.write("token_used", move |conn, now| used(conn, now, id)).await
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_tokens)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct TokenRow {
    id: Vec<u8>,
    name: String,
    scopes: String,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
    namespace: Option<String>,
    max_ttl_seconds: Option<i64>,
}

impl TokenRow {
    fn read(self, observed_at: Timestamp) -> QueryResult<ApiToken> {
        let words: Vec<String> =
            serde_json::from_str(&self.scopes).map_err(|_| unreadable("token scope"))?;
        let scopes: Option<Vec<TokenScope>> =
            words.iter().map(|word| TokenScope::parse(word)).collect();
        Ok(ApiToken {
            id: uuid(&self.id)?,
            name: self.name,
            scopes: TokenScopes::new(scopes.ok_or_else(|| unreadable("token scope"))?),
            binding: binding(self.namespace.as_deref(), self.max_ttl_seconds)
                .map_err(|_| unreadable("token namespace"))?,
            created_at: timestamp(self.created_at)?,
            expires_at: optional_timestamp(self.expires_at)?,
            last_used_at: optional_timestamp(self.last_used_at)?,
            revoked_at: optional_timestamp(self.revoked_at)?,
            observed_at,
        })
    }
}

fn create(
    conn: &mut SqliteConnection,
    now: Timestamp,
    new: &NewToken,
    event: &NewEvent,
) -> QueryResult<ApiToken> {
    let words: Vec<&str> = new.scopes.as_slice().iter().map(|scope| scope.as_str()).collect();
    let expires_at = new.ttl_seconds.map(|seconds| now + Duration::seconds(i64::from(seconds)));
    diesel::insert_into(api_tokens::table)
        .values((
            api_tokens::id.eq(new.id.as_bytes().as_slice()),
            api_tokens::name.eq(&new.name),
            api_tokens::hash.eq(new.hash.0.as_slice()),
            api_tokens::scopes.eq(serde_json::Value::from(words).to_string()),
            api_tokens::created_at.eq(now.timestamp_micros()),
            api_tokens::expires_at.eq(expires_at.map(|at| at.timestamp_micros())),
            api_tokens::namespace.eq(new.binding.as_ref().map(|to| to.namespace.as_str())),
            api_tokens::max_ttl_seconds
                .eq(new.binding.as_ref().map(|to| i64::from(to.max_ttl_seconds))),
        ))
        .execute(conn)?;
    events::write(conn, now, event)?;
    find(conn, now, new.id)?.ok_or(diesel::result::Error::NotFound)
}

fn find(conn: &mut SqliteConnection, now: Timestamp, id: Uuid) -> QueryResult<Option<ApiToken>> {
    api_tokens::table
        .find(id.as_bytes().as_slice())
        .select(TokenRow::as_select())
        .get_result(conn)
        .optional()?
        .map(|row| row.read(now))
        .transpose()
}

/// One token that cannot be read does not hide the others.
fn find_by_hashes(
    conn: &mut SqliteConnection,
    now: Timestamp,
    hashes: &[TokenHash],
) -> QueryResult<Vec<(TokenHash, Result<ApiToken>)>> {
    let hashes = hashes.iter().map(|hash| hash.0.as_slice());
    let rows: Vec<(Vec<u8>, TokenRow)> = api_tokens::table
        .filter(api_tokens::hash.eq_any(hashes))
        .select((api_tokens::hash, TokenRow::as_select()))
        .load(conn)?;
    let found = rows.into_iter().filter_map(|(hash, row)| {
        let token = row.read(now).map_err(|error| StoreError::Unexpected(error.to_string()));
        Some((TokenHash(hash.try_into().ok()?), token))
    });
    Ok(found.collect())
}

/// Every token, oldest first.
fn list(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<Vec<ApiToken>> {
    let rows = api_tokens::table
        .select(TokenRow::as_select())
        .order((api_tokens::created_at, api_tokens::id))
        .load(conn)?;
    let tokens = rows.into_iter().filter_map(|row: TokenRow| {
        let id = base16ct::lower::encode_string(&row.id);
        readable(row.read(now), "token", id)
    });
    Ok(tokens.collect())
}

fn revoke(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: Uuid,
    event: &NewEvent,
) -> QueryResult<Option<ApiToken>> {
    let token = api_tokens::table.find(id.as_bytes().to_vec());
    let revoked = diesel::update(token.filter(api_tokens::revoked_at.is_null()))
        .set(api_tokens::revoked_at.eq(now.timestamp_micros()))
        .execute(conn)?;
    if revoked > 0 {
        events::write(conn, now, event)?;
    }
    find(conn, now, id)
}

fn used(conn: &mut SqliteConnection, now: Timestamp, id: Uuid) -> QueryResult<()> {
    diesel::update(api_tokens::table.find(id.as_bytes().as_slice()))
        .set(api_tokens::last_used_at.eq(now.timestamp_micros()))
        .execute(conn)?;
    Ok(())
}
