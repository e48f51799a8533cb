//! The instances that serve, their heartbeats, and the guard that one raises when it begins to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use diesel::dsl::{max, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Double, Timestamptz};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use super::connection::errors::{InFlight, Trouble};
use super::connection::failure::ConnectError;
use super::connection::statement::Prepared;
use super::guard::{ADOPT, Guard, check_server, here};
use super::schema::instances;
use super::sessions::lists::cut;
use super::sessions::row::unsigned;
use super::{PostgresStore, events, unreadable};
use crate::domain::{Actor, Instance, NewEvent, OwnType, Page, PageRequest, Timestamp};
use crate::storage::instances::{KEPT, place, position};
use crate::storage::marks::Stage;
use crate::storage::readable::readable;
use crate::storage::{Joining, Mark, Result, Server, StoreError};

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

    pub async fn server(&self) -> Result<Server> {
        self.read("server", async |c| here(c).await).await
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
        let sent = self.transaction("heartbeat", async |c| guard.beat(c, &heartbeat, stage).await);
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
            let mut c = connector.connect_to_change().await?;
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

async fn adopt_in(c: &mut AsyncPgConnection, actor: &Actor) -> QueryResult<()> {
    sql_query(ADOPT).execute(c).await?;
    let event = NewEvent::own(OwnType::DatabaseAdopted, actor.clone(), "database", &json!({}));
    events::record(c, &event).await
}
