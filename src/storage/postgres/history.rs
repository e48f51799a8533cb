//! What this database did in the past that its rows no longer show: until when signers' nonces
//! that have expired may be gone.

use diesel::QueryDsl as _;
use diesel_async::RunQueryDsl;

use super::PostgresStore;
use super::schema::history;
use crate::domain::Timestamp;
use crate::storage::Result;

impl PostgresStore {
    pub async fn purged_until(&self) -> Result<Option<Timestamp>> {
        self.read("purged_until", async |c| {
            history::table.select(history::purged_until).first(c).await
        })
        .await
    }
}
