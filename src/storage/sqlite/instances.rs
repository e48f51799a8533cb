//! The process that serves, and its heartbeats. One process serves a database, and a file cannot go
//! back in time under it: so what it remembers counts at the next start only, by the mark in its data
//! folder. A heartbeat is written when something else was, or after a while.

use std::sync::PoisonError;
use std::time::Duration;

use diesel::dsl::max;
use diesel::prelude::*;
use diesel::upsert::excluded;
use serde_json::json;
use uuid::Uuid;

use super::schema::{history, instances};
use super::serving::Serving;
use super::types::{before, number, optional_timestamp, stored, timestamp, unreadable, uuid};
use super::{SqliteStore, events};
use crate::domain::{Actor, Cursor, Instance, NewEvent, OwnType, Page, PageRequest, Timestamp};
use crate::storage::instances::{KEPT, place, position};
use crate::storage::marks::Stage;
use crate::storage::readable::readable;
use crate::storage::{Joining, Mark, Result, StoreError};

/// A heartbeat without a change is written only so often: it would wake the disk each second. An
/// instance that says nothing for a minute is taken for gone.
const IDLE: Duration = Duration::from_secs(30);

impl SqliteStore {
    pub async fn heartbeats(&self, instance: Uuid) -> Result<(Option<u64>, Option<Timestamp>)> {
        let heartbeats = move |conn: &mut SqliteConnection, _| {
            let row = instances::table.find(instance.as_bytes().as_slice());
            let found: Option<i64> = row.select(instances::counter).get_result(conn).optional()?;
            let latest = instances::table.select(max(instances::heartbeat_at));
            let latest: Option<i64> = latest.first(conn)?;
            Ok((found.map(number).transpose()?, latest.map(timestamp).transpose()?))
        };
        self.0.read("heartbeats", heartbeats).await
    }

    pub async fn join(&self, joining: Joining) -> Result<()> {
        let recovered_at = self.history().await?.recovered_at;
        let Joining { name, host, issued_until, marks, .. } = joining;
        if let Some(issued_until) = issued_until {
            self.latest_issue().note(issued_until);
        }
        let serving = Serving { id: Uuid::now_v7(), name, host, recovered_at, marks, last: None };
        *self.serving() = Some(serving);
        self.heartbeat(Stage::Serving).await?;
        self.0.write("forget_instances", |conn, _| forget(conn)).await
    }

    pub(in crate::storage) async fn heartbeat(&self, stage: Stage) -> Result<Mark> {
        let not_serving = || StoreError::Unexpected("this store does not serve".into());
        let serving = self.serving().clone().ok_or_else(not_serving)?;
        let issued_until = self.latest_issue().get();
        let beat = move |conn: &mut SqliteConnection, now: Timestamp| {
            beat(conn, now, &serving, issued_until, stage)
        };
        let (mark, changes) = self.0.write("heartbeat", beat).await?;
        if let Some(serving) = &mut *self.serving() {
            serving.last = Some((mark.clone(), changes));
            serving.marks.keep(&mark);
        }
        Ok(mark)
    }

    #[must_use]
    pub fn recovered_at(&self) -> Option<Timestamp> {
        self.serving().as_ref()?.recovered_at
    }

    pub async fn adopt(&self, actor: Actor) -> Result<()> {
        let event = NewEvent::own(OwnType::DatabaseAdopted, actor, "database", &json!({}));
        self.0.write("adopt", move |conn, now| events::write(conn, now, &event).map(drop)).await
    }

    pub async fn instances(&self, page: &PageRequest) -> Result<Page<Instance>> {
        let (after, limit) = (page.after.as_ref().map(position).transpose()?, page.limit);
        let list = move |conn: &mut _, now| list(conn, now, after, limit);
        self.0.read("instances", list).await
    }

    fn serving(&self) -> std::sync::MutexGuard<'_, Option<Serving>> {
        self.0.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = instances)]
struct InstanceRow {
    id: Vec<u8>,
    name: String,
    host: String,
    version: String,
    started_at: i64,
    heartbeat_at: i64,
    ended_at: Option<i64>,
    state: String,
}

impl InstanceRow {
    fn read(self, now: Timestamp) -> QueryResult<Instance> {
        let stage = Stage::parse(&self.state).ok_or_else(|| unreadable("state"))?;
        let heartbeat_at = timestamp(self.heartbeat_at)?;
        Ok(Instance {
            id: uuid(&self.id)?,
            name: self.name,
            host: self.host,
            version: self.version,
            started_at: timestamp(self.started_at)?,
            heartbeat_at,
            ended_at: optional_timestamp(self.ended_at)?,
            state: stage.state(heartbeat_at, now),
        })
    }
}

/// The latest start first.
fn list(
    conn: &mut SqliteConnection,
    now: Timestamp,
    after: Option<(Timestamp, Uuid)>,
    limit: u32,
) -> QueryResult<Page<Instance>> {
    let mut query = instances::table
        .select(InstanceRow::as_select())
        .order((instances::started_at.desc(), instances::id.desc()))
        .limit(i64::from(limit) + 1)
        .into_boxed();
    if let Some((at, id)) = after {
        let (at, id) = (at.timestamp_micros(), id.as_bytes().to_vec());
        let earlier = instances::started_at.eq(at).and(instances::id.lt(id));
        query = query.filter(instances::started_at.lt(at).or(earlier));
    }
    let rows: Vec<InstanceRow> = query.load(conn)?;
    let more = stored(rows.len()) > i64::from(limit);
    let mut items = Vec::with_capacity(rows.len());
    let mut last = None;
    for row in rows.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let id = uuid(&row.id)?;
        last = Some(Cursor::new(place(timestamp(row.started_at)?, id)));
        items.extend(readable(row.read(now), "instance", id));
    }
    Ok(Page { items, next: last.filter(|_| more) })
}

/// Two heartbeats say what time it is: the newest alone may be of a clock that leapt.
fn forget(conn: &mut SqliteConnection) -> QueryResult<()> {
    let newest = instances::table.select(instances::heartbeat_at);
    let newest = newest.order(instances::heartbeat_at.desc());
    let Some(since) = newest.offset(1).first::<i64>(conn).optional()? else { return Ok(()) };
    let before = instances::heartbeat_at.lt(before(timestamp(since)?, KEPT));
    diesel::delete(instances::table.filter(before)).execute(conn).map(drop)
}

/// Writes a heartbeat, if there is anything that it stands for.
fn beat(
    conn: &mut SqliteConnection,
    now: Timestamp,
    serving: &Serving,
    issued_until: Option<Timestamp>,
    stage: Stage,
) -> QueryResult<(Mark, i64)> {
    let changes = super::threads::changes(conn);
    if let Some((mark, changed)) = &serving.last
        && stage == Stage::Serving
        && *changed == changes
        && (now - mark.at).to_std().is_ok_and(|since| since < IDLE)
    {
        return Ok((mark.clone(), changes));
    }
    let at = now.timestamp_micros();
    let ended_at = (stage != Stage::Serving).then_some(at);
    diesel::insert_into(instances::table)
        .values((
            instances::id.eq(serving.id.as_bytes().as_slice()),
            instances::name.eq(&serving.name),
            instances::host.eq(&serving.host),
            instances::version.eq(env!("CARGO_PKG_VERSION")),
            instances::started_at.eq(at),
            instances::heartbeat_at.eq(at),
            instances::ended_at.eq(ended_at),
            instances::state.eq(stage.as_str()),
            instances::counter.eq(1),
            instances::issued_until.eq(issued_until.map(|at| at.timestamp_micros())),
        ))
        .on_conflict(instances::id)
        .do_update()
        .set((
            instances::heartbeat_at.eq(excluded(instances::heartbeat_at)),
            instances::ended_at.eq(excluded(instances::ended_at)),
            instances::state.eq(excluded(instances::state)),
            instances::counter.eq(instances::counter + 1),
            instances::issued_until.eq(excluded(instances::issued_until)),
        ))
        .execute(conn)?;
    let row = instances::table.find(serving.id.as_bytes().as_slice());
    let counter: i64 = row.select(instances::counter).get_result(conn)?;
    let generation: Vec<u8> = history::table.select(history::generation).get_result(conn)?;
    let mark = Mark {
        generation: uuid(&generation)?,
        instance: serving.id,
        counter: number(counter)?,
        at: timestamp(at)?,
        issued_until,
        server: None,
    };
    Ok((mark, super::threads::changes(conn)))
}
