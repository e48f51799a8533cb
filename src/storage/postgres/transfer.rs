//! Transfers to other databases ([`arrival`](super::arrival) has the other end). What refuses changes
//! of a drained database is a trigger on every table (see the migration `transfers`): it also refuses
//! what began before, and costs nothing until it is there.

use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::arriving::FROM;
use super::connection::errors::{InFlight, Trouble};
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::restore::{Failure, LOCK_TIMEOUT};
use super::schema::transfers;
use super::{PostgresStore, events, migrations};
use crate::domain::Timestamp;
use crate::storage::tables::TABLES;
use crate::storage::transfer::{began, by_table, called_off, count_all};
use crate::storage::{Departure, Result, StoreError};

const TO: &str = "to";

/// Written even if it was before, so that the answer is durable.
const HAND_OVER: &str = "
    UPDATE transfers SET moved_at = coalesce(moved_at, now()) WHERE direction = 'to' AND id = $1";

#[derive(Queryable, Selectable)]
#[diesel(table_name = transfers, check_for_backend(diesel::pg::Pg))]
struct DepartureRow {
    id: Uuid,
    peer: String,
    began_at: Timestamp,
    moved_at: Option<Timestamp>,
    confirmed_at: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

impl From<DepartureRow> for Departure {
    fn from(row: DepartureRow) -> Self {
        let DepartureRow { id, peer: to, began_at, moved_at, confirmed_at } = row;
        Self { id, to, began_at, moved_at, confirmed_at }
    }
}

impl PostgresStore {
    pub async fn drain(&self, to: &str) -> Result<Departure> {
        let (connector, to) = (self.general.patient(), to.to_owned());
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect_to_change().await?;
            connection.transaction(async |c| drain(c, &to).await).await.map_err(Failure::into_error)
        });
        task.await.unwrap_or_else(|error| Err(stopped(&error)))
    }

    pub async fn departure(&self) -> Result<Option<Departure>> {
        self.read(Operation::even_if_cut("departure"), async |c| departure(c).await).await
    }

    pub async fn arrived_by(&self) -> Result<Option<Uuid>> {
        self.read("arrived_by", async |c| {
            transfers::table.find(FROM).select(transfers::id).first(c).await.optional()
        })
        .await
    }

    pub async fn hand_over(&self, id: Uuid) -> Result<bool> {
        self.write("hand_over", async |c| {
            let moved = Prepared(sql_query(HAND_OVER).bind::<SqlUuid, _>(id));
            Ok(moved.execute(c).await? > 0)
        })
        .await
    }

    pub async fn confirm_transfer(&self, id: Uuid) -> Result<()> {
        self.write("confirm_transfer", async |c| {
            let moved = transfers::table.find(TO).filter(transfers::id.eq(id));
            let moved = moved.filter(transfers::moved_at.is_not_null());
            diesel::update(moved).set(transfers::confirmed_at.eq(now)).execute(c).await.map(drop)
        })
        .await
    }

    pub async fn release(&self, id: Uuid) -> Result<bool> {
        self.transaction("release", async |c| {
            let drained = transfers::table.find(TO).filter(transfers::id.eq(id));
            let drained = drained.filter(transfers::moved_at.is_null());
            if diesel::delete(drained).execute(c).await? == 0 {
                return Ok(false);
            }
            let admit = TABLES.map(|table| format!("DROP TRIGGER moved ON {};", table.name));
            c.batch_execute(&admit.concat()).await?;
            events::record(c, &called_off(id)).await?;
            Ok(true)
        })
        .await
    }

    pub async fn table_rows(&self) -> Result<Vec<(&'static str, u64)>> {
        // Counting may take longer than other statements may.
        let connector = self.general.patient();
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect().await?;
            let counted = table_rows(&mut connection).await;
            counted.map_err(|error| Trouble::of(&error).into_error(InFlight::NoCommit))
        });
        task.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }
}

fn stopped(error: &tokio::task::JoinError) -> StoreError {
    StoreError::OutcomeUnknown(format!("the transfer stopped: {error}"))
}

async fn departure(c: &mut AsyncPgConnection) -> QueryResult<Option<Departure>> {
    let row = transfers::table.find(TO).select(DepartureRow::as_select());
    Ok(row.first(c).await.optional()?.map(Departure::from))
}

async fn drain(c: &mut AsyncPgConnection, to: &str) -> std::result::Result<Departure, Failure> {
    c.batch_execute(LOCK_TIMEOUT).await?;
    let id = Uuid::now_v7();
    let row = (
        transfers::direction.eq(TO),
        transfers::id.eq(id),
        transfers::peer.eq(to),
        transfers::began_at.eq(now),
    );
    // Waits for another transfer that begins right now.
    let first = diesel::insert_into(transfers::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await?;
    if first > 0 {
        events::record(c, &began(id, to)).await?;
        // Waits for every transaction that has changed something.
        let refuse = TABLES.map(|table| {
            format!(
                "CREATE TRIGGER moved BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} \
                 FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes();",
                table.name
            )
        });
        c.batch_execute(&refuse.concat()).await?;
    }
    if !migrations::serving(c).await?.is_empty() {
        let why = "an instance serves on the source; stop it first";
        return Err(StoreError::Unsuitable(why.to_owned()).into());
    }
    let departure = departure(c).await?;
    departure.ok_or_else(|| StoreError::Unexpected("a transfer is gone".to_owned()).into())
}

pub(super) async fn table_rows(c: &mut AsyncPgConnection) -> QueryResult<Vec<(&'static str, u64)>> {
    let counts: Vec<Count> = sql_query(count_all()).load(c).await?;
    let counts: Vec<_> = counts.into_iter().map(|count| (count.name, count.rows)).collect();
    Ok(by_table(&counts))
}
