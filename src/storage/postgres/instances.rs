//! The instances that serve, their heartbeats, and the guard that one raises when it begins to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use diesel::dsl::{max, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use super::connection::connect::ConnectError;
use super::connection::errors::{InFlight, Trouble};
use super::connection::statement::Prepared;
use super::guard::{ADOPT, Beat, Guard, Heartbeat, check_server};
use super::schema::instances;
use super::sessions::lists::cut;
use super::sessions::row::unsigned;
use super::{PostgresStore, events, unreadable};
use crate::domain::{Actor, Instance, NewEvent, OwnType, Page, PageRequest, Timestamp};
use crate::storage::instances::{KEPT, Stage, place, position};
use crate::storage::readable::readable;
use crate::storage::{Joining, Mark, Result, StoreError};

/// The answer is the heartbeats of every instance that lives, this one's included. The database has
/// theirs on disk when it has this one's: it comes later in the WAL. A mark that a transaction still
/// holds is left for the next heartbeat.
const HEARTBEAT: &str = "
    WITH beat AS (
        INSERT INTO instances (
            id, name, host, version, started_at, heartbeat_at, ended_at, state, counter, issued_until
        )
        VALUES (
            $1, $2, $3, $4, now(), now(), CASE WHEN $5 <> 'serving' THEN now() END, $5, 1, $7
        )
        ON CONFLICT (id) DO UPDATE
        SET heartbeat_at = excluded.heartbeat_at, ended_at = excluded.ended_at,
            state = excluded.state, counter = instances.counter + 1,
            issued_until = excluded.issued_until
        RETURNING id, counter
    ),
    forgotten AS (
        DELETE FROM marks WHERE id = ANY (ARRAY(
            SELECT id FROM marks WHERE id = ANY ($6) FOR UPDATE SKIP LOCKED
        ))
    )
    SELECT id, counter, now() AS at, (SELECT generation FROM history) AS generation,
        ARRAY(SELECT id FROM marks WHERE instance = $1 AND id <> ALL ($6)) AS marks
    FROM beat
    UNION ALL
    SELECT id, counter, now(), (SELECT generation FROM history), '{}' FROM instances
    WHERE id <> $1 AND state = 'serving' AND heartbeat_at > now() - interval '1 hour'";

/// Two heartbeats say what time it is: the newest alone may be of a clock that leapt. A mark without
/// an instance is of one that is forgotten: an instance has a row before it decides.
const FORGET: &str = "
    WITH since AS (
        SELECT coalesce(
            (
                SELECT heartbeat_at - make_interval(secs => $1) FROM instances
                ORDER BY heartbeat_at DESC OFFSET 1 LIMIT 1
            ),
            '-infinity'
        ) AS at
    ),
    forgotten AS (
        DELETE FROM instances USING since WHERE heartbeat_at < since.at
    )
    DELETE FROM marks USING since WHERE NOT EXISTS (
        SELECT FROM instances i WHERE i.id = marks.instance AND i.heartbeat_at >= since.at
    )";

#[derive(QueryableByName)]
struct BeatRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    counter: i64,
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(sql_type = SqlUuid)]
    generation: Uuid,
    #[diesel(sql_type = Array<SqlUuid>)]
    marks: Vec<Uuid>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = instances)]
struct InstanceFields {
    id: Uuid,
    name: String,
    host: String,
    version: String,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    ended_at: Option<Timestamp>,
    state: String,
}

/// With the database's clock.
type InstanceRow = (InstanceFields, Timestamp);

impl InstanceFields {
    fn read(self, now: Timestamp) -> QueryResult<Instance> {
        let stage = Stage::parse(&self.state).ok_or_else(|| unreadable("an unknown state"))?;
        Ok(Instance {
            id: self.id,
            name: self.name,
            host: self.host,
            version: self.version,
            started_at: self.started_at,
            heartbeat_at: self.heartbeat_at,
            ended_at: self.ended_at,
            state: stage.state(self.heartbeat_at, now),
        })
    }
}

impl PostgresStore {
    pub async fn heartbeats(&self, instance: Uuid) -> Result<(Option<u64>, Option<Timestamp>)> {
        self.read("heartbeats", async |c| {
            let found = instances::table.find(instance).select(instances::counter);
            let found: Option<i64> = found.first(c).await.optional()?;
            let latest = instances::table.select(max(instances::heartbeat_at));
            Ok((found.map(unsigned).transpose()?, latest.first(c).await?))
        })
        .await
    }

    pub async fn is_elsewhere(&self) -> Result<bool> {
        let connector = self.general.patient();
        self.spawned("the look at the server", async move {
            let mut c = connector.connect().await?;
            Ok(check_server(&mut c).await?.cut)
        })
        .await
    }

    pub async fn join(&self, joining: Joining) -> Result<()> {
        if let Some(issued_until) = joining.issued_until {
            self.latest_issue().note(issued_until);
        }
        let (instance, latest) = (self.instance, Arc::clone(&self.latest_issue));
        let (connector, guard) = (self.general.patient(), Arc::clone(&self.guard));
        let (server, metrics) = (Arc::clone(&self.server), Arc::clone(&self.metrics));
        self.spawned("the start", async move {
            let mut c = connector.connect().await?;
            let raised = Guard::new(&mut c, instance, joining, latest, server, metrics).await?;
            if raised.admit(&mut c, false).await?.cut {
                let why = raised.let_pass("join".into()).err();
                return Err(why.unwrap_or_else(|| ConnectError::went_back("").into()));
            }
            // Only the first call counts.
            let _ = guard.set(raised);
            Ok(())
        })
        .await?;
        // Those that are open were not checked by the guard.
        self.server.fetch_add(1, Ordering::Relaxed);
        self.heartbeat(Stage::Serving).await?;
        self.write("forget_instances", async |c| {
            let forget = sql_query(FORGET).bind::<Double, _>(KEPT.as_secs_f64());
            Prepared(forget).execute(c).await.map(drop)
        })
        .await
    }

    pub(in crate::storage) async fn heartbeat(&self, stage: Stage) -> Result<Mark> {
        let not_serving = || StoreError::Unexpected("this store does not serve".into());
        let guard = self.guard.get().ok_or_else(not_serving)?;
        if guard.refusal().is_some() {
            self.look_again().await?;
        }
        let heartbeat = guard.begin_heartbeat();
        let sent = self.transaction("heartbeat", async |c| beat(c, guard, &heartbeat, stage).await);
        let (mark, beat) = sent.await?;
        guard.end_heartbeat(&heartbeat, beat);
        guard.keep(&mark);
        Ok(mark)
    }

    pub async fn instances(&self, page: &PageRequest) -> Result<Page<Instance>> {
        let after = page.after.as_ref().map(position).transpose()?;
        let rows: Vec<InstanceRow> = self
            .read("instances", async |c| {
                let mut query = instances::table
                    .select((InstanceFields::as_select(), sql::<Timestamptz>("now()")))
                    .order((instances::started_at.desc(), instances::id.desc()))
                    .limit(i64::from(page.limit) + 1)
                    .into_boxed::<Pg>();
                if let Some((at, id)) = after {
                    let earlier = instances::started_at.eq(at).and(instances::id.lt(id));
                    query = query.filter(instances::started_at.lt(at).or(earlier));
                }
                query.load(c).await
            })
            .await?;
        let Page { items, next } =
            cut(rows, page.limit, |(last, _)| place(last.started_at, last.id));
        let items = items.into_iter().filter_map(|(row, now)| {
            let id = row.id;
            readable(row.read(now), "instance", id)
        });
        Ok(Page { items: items.collect(), next })
    }

    /// No operation opens a connection while the database is not served: this does, to see whether it
    /// can be served again.
    async fn look_again(&self) -> Result<()> {
        let connector = Arc::clone(&self.general);
        self.spawned("the look at the database", async move {
            connector.attempt().await?;
            Ok(())
        })
        .await
    }

    #[must_use]
    pub fn recovered_at(&self) -> Option<Timestamp> {
        self.guard.get()?.recovered_at()
    }

    pub async fn adopt(&self, actor: Actor) -> Result<()> {
        let connector = self.general.patient();
        self.spawned("the adoption", async move {
            let mut c = connector.connect().await?;
            let adopted = c.transaction(async |c| adopt_in(c, &actor).await).await;
            adopted.map_err(|error| Trouble::of(&error).into_error(InFlight::Commit))
        })
        .await
    }

    /// Runs on the runtime of the store, which drives its connections.
    async fn spawned<T: Send + 'static>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let aborted = |error| StoreError::OutcomeUnknown(format!("{what} was given up: {error}"));
        self.runtime.spawn(work).await.unwrap_or_else(|error| Err(aborted(error)))
    }
}

/// Sends a heartbeat, and returns what is to be remembered once it is acknowledged.
pub(super) async fn beat(
    c: &mut AsyncPgConnection,
    guard: &Guard,
    heartbeat: &Heartbeat,
    stage: Stage,
) -> QueryResult<(Mark, Beat)> {
    let (joining, instance) = (guard.joining(), guard.instance());
    let issued_until = guard.issued_until();
    let beat = sql_query(HEARTBEAT)
        .bind::<SqlUuid, _>(instance)
        .bind::<Text, _>(&joining.name)
        .bind::<Text, _>(&joining.host)
        .bind::<Text, _>(env!("CARGO_PKG_VERSION"))
        .bind::<Text, _>(stage.as_str())
        .bind::<Array<SqlUuid>, _>(&heartbeat.forgotten)
        .bind::<Nullable<Timestamptz>, _>(issued_until);
    let beats: Vec<BeatRow> = Prepared(beat).load(c).await?;
    let heartbeats = beats.iter().map(|beat| (beat.id, beat.counter)).collect();
    let own = beats.into_iter().find(|beat| beat.id == instance);
    let BeatRow { counter, at, generation, marks, .. } =
        own.ok_or_else(|| unreadable("a heartbeat that was not counted"))?;
    let mark = Mark { generation, instance, counter: unsigned(counter)?, at, issued_until };
    Ok((mark, Beat { generation, at, heartbeats, marks }))
}

async fn adopt_in(c: &mut AsyncPgConnection, actor: &Actor) -> QueryResult<()> {
    sql_query(ADOPT).execute(c).await?;
    let event = NewEvent::own(OwnType::DatabaseAdopted, actor.clone(), "database", &json!({}));
    events::record(c, &event).await
}
