//! Calls that publish events, each at most once for its key. The unique key has calls of the same
//! moment wait for each other.

use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::confirm::confirm;
use super::events::record_as;
use super::schema::publications;
use crate::domain::{NewEvent, PublicationKey, Published};
use crate::storage::Result;

impl PostgresStore {
    pub async fn publish_once(
        &self,
        events: Vec<NewEvent>,
        key: PublicationKey,
    ) -> Result<Published> {
        let all: Vec<_> = events.iter().collect();
        let published =
            self.transaction("publish_once", async |c| publish(c, &all, &key).await).await?;
        self.published.notify_one();
        Ok(published)
    }
}

async fn publish(
    c: &mut AsyncPgConnection,
    events: &[&NewEvent],
    key: &PublicationKey,
) -> QueryResult<Published> {
    let ids: Vec<_> = events.iter().map(|_| Uuid::now_v7()).collect();
    let first = diesel::insert_into(publications::table)
        .values((
            publications::digest.eq(key.digest.as_slice()),
            publications::content.eq(key.content.as_slice()),
            publications::events.eq(&ids),
            publications::at.eq(now.into_sql::<Timestamptz>()),
        ))
        .on_conflict_do_nothing()
        .execute(c)
        .await?;
    if first == 1 {
        record_as(c, &ids, events).await?;
        return Ok(Published::Done { ids, repeated: false });
    }
    let known = publications::table
        .find(key.digest.as_slice())
        .select((publications::content, publications::events));
    let (content, ids): (Vec<u8>, Vec<Uuid>) = known.first(c).await?;
    // The first call may not have heard that it is written.
    confirm(c).await?;
    if content == key.content {
        Ok(Published::Done { ids, repeated: true })
    } else {
        Ok(Published::OtherContent)
    }
}
