//! API tokens. Only their hashes are here.

use chrono::{DateTime, Utc};
use diesel::dsl::{AsExprOf, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::confirm::confirm;
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::events;
use super::schema::api_tokens;
use super::unreadable;
use crate::domain::{ApiToken, NewEvent, NewToken, TokenHash, TokenScope, TokenScopes};
use crate::storage::readable::readable;
use crate::storage::tokens::binding;
use crate::storage::{Result, StoreError};

/// Instances that start at once with the same configured token all make it; one does.
const CREATE: &str = "
    INSERT INTO api_tokens (
        id, name, hash, scopes, created_at, expires_at, namespace, max_ttl_seconds
    )
    VALUES ($1, $2, $3, $4, now(), now() + $5 * interval '1 second', $6, $7)
    ON CONFLICT (hash) DO NOTHING";

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_tokens, check_for_backend(Pg))]
struct TokenRow {
    id: Uuid,
    name: String,
    scopes: Vec<Option<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    namespace: Option<String>,
    max_ttl_seconds: Option<i32>,
    #[diesel(select_expression = now.into_sql::<Timestamptz>())]
    #[diesel(select_expression_type = AsExprOf<now, Timestamptz>)]
    observed_at: DateTime<Utc>,
}

impl TokenRow {
    fn read(self) -> QueryResult<ApiToken> {
        let scopes: Option<Vec<_>> =
            self.scopes.iter().map(|scope| scope.as_deref().and_then(TokenScope::parse)).collect();
        Ok(ApiToken {
            id: self.id,
            name: self.name,
            scopes: TokenScopes::new(scopes.ok_or_else(|| unreadable("an unknown scope"))?),
            binding: binding(self.namespace.as_deref(), self.max_ttl_seconds.map(i64::from))
                .map_err(|_| unreadable("a binding that is none"))?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
            revoked_at: self.revoked_at,
            observed_at: self.observed_at,
        })
    }
}

impl PostgresStore {
    pub async fn create_token(&self, new: NewToken, event: NewEvent) -> Result<ApiToken> {
        self.transaction("create_token", async |c| {
            let scopes: Vec<_> = new.scopes.as_slice().iter().map(|s| s.as_str()).collect();
            let binding = new.binding.as_ref();
            let max_ttl = binding.and_then(|to| i32::try_from(to.max_ttl_seconds).ok());
            let create = sql_query(CREATE)
                .bind::<SqlUuid, _>(new.id)
                .bind::<Text, _>(&new.name)
                .bind::<Bytea, _>(new.hash.0.as_slice())
                .bind::<Array<Text>, _>(scopes)
                .bind::<Nullable<BigInt>, _>(new.ttl_seconds.map(i64::from))
                .bind::<Nullable<Text>, _>(binding.map(|to| to.namespace.as_str()))
                .bind::<Nullable<Integer>, _>(max_ttl);
            if Prepared(create).execute(c).await? > 0 {
                events::record(c, &event).await?;
            } else {
                confirm(c).await?;
            }
            find(c, &new.hash).await?.ok_or_else(|| unreadable("a new token is gone"))
        })
        .await
    }

    pub async fn tokens(
        &self,
        hashes: Vec<TokenHash>,
    ) -> Result<Vec<(TokenHash, Result<ApiToken>)>> {
        let hashes: Vec<_> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
        self.read(Operation::even_if_cut("tokens"), async |c| {
            let tokens = api_tokens::table.filter(api_tokens::hash.eq_any(&hashes));
            let tokens = tokens.select((api_tokens::hash, TokenRow::as_select()));
            let rows: Vec<(Vec<u8>, TokenRow)> = tokens.load(c).await?;
            // One token that cannot be read does not hide the others.
            let found = rows.into_iter().filter_map(|(hash, row)| {
                let token = row.read().map_err(|error| StoreError::Unexpected(error.to_string()));
                Some((TokenHash(hash.try_into().ok()?), token))
            });
            Ok(found.collect())
        })
        .await
    }

    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        self.read(Operation::even_if_cut("list_tokens"), async |c| {
            let tokens = api_tokens::table.select(TokenRow::as_select());
            let rows = tokens.order((api_tokens::created_at, api_tokens::id)).load(c).await?;
            let tokens = rows.into_iter().filter_map(|row: TokenRow| {
                let id = row.id;
                readable(row.read(), "token", id)
            });
            Ok(tokens.collect())
        })
        .await
    }

    pub async fn revoke_token(&self, id: Uuid, event: NewEvent) -> Result<Option<ApiToken>> {
        self.transaction(Operation::even_if_cut("revoke_token"), async |c| {
            let token = api_tokens::table.find(id);
            let revoked = diesel::update(token.filter(api_tokens::revoked_at.is_null()))
                .set(api_tokens::revoked_at.eq(now))
                .execute(c)
                .await?;
            if revoked > 0 {
                events::record(c, &event).await?;
            } else {
                confirm(c).await?;
            }
            let row = token.select(TokenRow::as_select()).first(c).await.optional()?;
            row.map(TokenRow::read).transpose()
        })
        .await
    }

    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        self.write(Operation::even_if_cut("token_used"), async |c| {
            diesel::update(api_tokens::table.find(id))
                .set(api_tokens::last_used_at.eq(now))
                .execute(c)
                .await
                .map(drop)
        })
        .await
    }
}

async fn find(c: &mut AsyncPgConnection, hash: &TokenHash) -> QueryResult<Option<ApiToken>> {
    let token = api_tokens::table.filter(api_tokens::hash.eq(hash.0.as_slice()));
    let row = token.select(TokenRow::as_select()).first(c).await.optional()?;
    row.map(TokenRow::read).transpose()
}
