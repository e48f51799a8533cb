//! The log of events: written in the transaction of the change that they record, and linked once
//! they are committed.

use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use uuid::Uuid;

use super::SqliteStore;
use super::schema::{event_chain, event_heads, events, signers};
use super::types::{number, optional_timestamp, stored, timestamp, unreadable, uuid};
use crate::domain::{
    Did, Event, EventData, EventFilter, Hash, LinkedEvent, NewEvent, SignedHead, Timestamp,
};
use crate::storage::Result;
use crate::storage::events::{EventChain, KeptHead, LINK_BATCH, links};

#[derive(Queryable, Selectable)]
#[diesel(table_name = events, check_for_backend(Sqlite))]
pub(super) struct EventRow {
    id: Vec<u8>,
    sequence: Option<i64>,
    type_: String,
    source: String,
    subject: Option<String>,
    actor: Option<String>,
    outcome: String,
    request_id: Option<String>,
    at: i64,
    data: String,
}

impl EventRow {
    pub(super) fn read(self) -> QueryResult<Event> {
        Ok(Event {
            id: uuid(&self.id)?,
            sequence: number(self.sequence.unwrap_or(0))?,
            kind: self.type_,
            source: self.source,
            subject: self.subject,
            actor: self.actor,
            outcome: self.outcome,
            request_id: self.request_id,
            at: timestamp(self.at)?,
            data: EventData::kept(self.data),
        })
    }
}

/// An event that is linked.
#[derive(Queryable, Selectable)]
#[diesel(table_name = events, check_for_backend(Sqlite))]
pub(super) struct LinkedRow {
    #[diesel(embed)]
    event: EventRow,
    salt: Option<Vec<u8>>,
    commitment: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
}

impl LinkedRow {
    pub(super) fn read(self) -> QueryResult<LinkedEvent> {
        Ok(LinkedEvent {
            event: self.event.read()?,
            salt: self.salt,
            commitment: self.commitment.unwrap_or_default(),
            hash: self.hash.unwrap_or_default(),
        })
    }
}

/// The chain's end.
pub(super) struct Tip {
    pub(super) sequence: u64,
    pub(super) hash: Hash,
}

impl SqliteStore {
    pub async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Uuid>> {
        let write_all = move |conn: &mut _, now| {
            events.iter().map(|event| write(conn, now, event)).collect::<QueryResult<_>>()
        };
        let ids = self.0.write("publish", write_all).await?;
        self.0.published.notify_one();
        Ok(ids)
    }

    pub async fn until_published(&self) {
        self.0.published.notified().await;
    }

    pub async fn events(&self, filter: &EventFilter, after: u64, limit: u32) -> Result<Vec<Event>> {
        let filter = filter.clone();
        self.0.read("events", move |conn, _| find(conn, &filter, after, limit)).await
    }

    pub async fn unlinked_since(&self) -> Result<Option<(Timestamp, Timestamp)>> {
        let since = |conn: &mut SqliteConnection, now| {
            let unlinked = events::table.filter(events::sequence.is_null()).order(events::id);
            let at = unlinked.select(events::at).first(conn).optional()?;
            Ok(at.map(timestamp).transpose()?.map(|at| (at, now)))
        };
        self.0.read("unlinked_since", since).await
    }

    pub async fn link_events(&self) -> Result<u64> {
        let link = |conn: &mut SqliteConnection, now| {
            let tip = chain_tip(conn)?;
            Ok(link_batch(conn, now, tip)?.0)
        };
        self.0.write("link_events", link).await
    }

    pub async fn signer_name(&self, signer: &Did) -> Result<Option<String>> {
        let key = signer.signer_key().0.to_vec();
        let name = move |conn: &mut SqliteConnection, _| {
            signers::table.find(key).select(signers::did).get_result(conn).optional()
        };
        self.0.read("signer_name", name).await
    }

    pub async fn event_chain(&self) -> Result<EventChain> {
        self.0.read("event_chain", chain).await
    }

    pub async fn linked_events(&self, after: u64, limit: u32) -> Result<Vec<LinkedEvent>> {
        self.0.read("linked_events", move |conn, _| linked(conn, after, limit)).await
    }

    pub async fn event_heads(&self, after: u64, limit: u32) -> Result<Vec<KeptHead>> {
        self.0.read("event_heads", move |conn, _| heads(conn, after, limit)).await
    }

    pub async fn keep_event_head(&self, head: SignedHead) -> Result<()> {
        self.0.write("keep_event_head", move |conn, _| keep_head(conn, &head)).await
    }
}

pub(super) fn write(
    conn: &mut SqliteConnection,
    now: Timestamp,
    event: &NewEvent,
) -> QueryResult<Uuid> {
    let id = Uuid::now_v7();
    diesel::insert_into(events::table)
        .values((
            events::id.eq(id.as_bytes().as_slice()),
            events::type_.eq(event.kind.as_str()),
            events::source.eq(event.source()),
            events::subject.eq(&event.subject),
            events::actor.eq(event.actor.to_string()),
            events::outcome.eq(event.outcome),
            events::request_id.eq(event.request_id.as_deref()),
            events::at.eq(now.timestamp_micros()),
            events::data.eq(event.data.as_str()),
        ))
        .execute(conn)?;
    Ok(id)
}

fn find(
    conn: &mut SqliteConnection,
    filter: &EventFilter,
    after: u64,
    limit: u32,
) -> QueryResult<Vec<Event>> {
    let mut found = events::table
        .filter(events::sequence.gt(stored(after)))
        .order(events::sequence)
        .limit(i64::from(limit))
        .select(EventRow::as_select())
        .into_boxed();
    if let Some(kind) = &filter.kind {
        found = found.filter(events::type_.eq(kind));
    }
    if let Some(subject) = &filter.subject {
        found = found.filter(events::subject.eq(subject));
    }
    if let Some(actor) = &filter.actor {
        found = found.filter(events::actor.eq(actor));
    }
    if let Some(outcome) = &filter.outcome {
        found = found.filter(events::outcome.eq(outcome));
    }
    if let Some(from) = filter.from {
        found = found.filter(events::at.ge(from.timestamp_micros()));
    }
    if let Some(to) = filter.to {
        found = found.filter(events::at.lt(to.timestamp_micros()));
    }
    let rows: Vec<EventRow> = found.load(conn)?;
    // A log that leaves an event out would look whole.
    rows.into_iter().map(EventRow::read).collect()
}

/// Where the chain ends, as the caller's transaction sees it.
pub(super) fn chain_tip(conn: &mut SqliteConnection) -> QueryResult<Tip> {
    let tip = event_chain::table.select((event_chain::sequence, event_chain::hash));
    let (sequence, hash): (i64, Vec<u8>) = tip.first(conn)?;
    Ok(Tip { sequence: number(sequence)?, hash: as_hash(hash)? })
}

/// Links every event.
pub(super) fn link_all(
    conn: &mut SqliteConnection,
    now: Timestamp,
    mut tip: Tip,
) -> QueryResult<Tip> {
    loop {
        let (linked, next) = link_batch(conn, now, tip)?;
        tip = next;
        if linked < u64::from(LINK_BATCH) {
            return Ok(tip);
        }
    }
}

fn link_batch(conn: &mut SqliteConnection, now: Timestamp, tip: Tip) -> QueryResult<(u64, Tip)> {
    let rows: Vec<EventRow> = events::table
        .filter(events::sequence.is_null())
        .order(events::id)
        .limit(i64::from(LINK_BATCH))
        .select(EventRow::as_select())
        .load(conn)?;
    link_rows(conn, now, tip, rows)
}

/// Writes an event, and links it before those that wait for that.
pub(super) fn write_linked(
    conn: &mut SqliteConnection,
    now: Timestamp,
    event: &NewEvent,
) -> QueryResult<()> {
    let id = write(conn, now, event)?;
    let written = events::table.find(id.as_bytes().as_slice()).select(EventRow::as_select());
    let rows = vec![written.get_result(conn)?];
    let tip = chain_tip(conn)?;
    link_rows(conn, now, tip, rows).map(drop)
}

fn link_rows(
    conn: &mut SqliteConnection,
    now: Timestamp,
    tip: Tip,
    rows: Vec<EventRow>,
) -> QueryResult<(u64, Tip)> {
    let unlinked = rows.into_iter().map(EventRow::read).collect::<QueryResult<_>>()?;
    let links = links(tip.sequence, tip.hash, unlinked);
    let Some((_, last)) = links.last().copied() else { return Ok((0, tip)) };
    for (id, link) in &links {
        diesel::update(events::table.find(id.as_bytes().as_slice()))
            .set((
                events::sequence.eq(stored(link.sequence)),
                events::salt.eq(link.salt.as_slice()),
                events::commitment.eq(link.commitment.as_slice()),
                events::hash.eq(link.hash.as_slice()),
            ))
            .execute(conn)?;
    }
    let tip = Tip { sequence: last.sequence, hash: last.hash };
    move_tip(conn, now, &tip)?;
    Ok((links.len() as u64, tip))
}

/// Says where the chain ends.
pub(super) fn move_tip(conn: &mut SqliteConnection, now: Timestamp, tip: &Tip) -> QueryResult<()> {
    diesel::update(event_chain::table)
        .set((
            event_chain::sequence.eq(stored(tip.sequence)),
            event_chain::hash.eq(tip.hash.as_slice()),
            event_chain::linked_at.eq(now.timestamp_micros()),
        ))
        .execute(conn)
        .map(drop)
}

fn chain(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<EventChain> {
    type Row = (Vec<u8>, i64, Vec<u8>, Option<i64>, i64, Vec<u8>);
    let (origin, sequence, hash, linked_at, cut_sequence, cut_hash): Row = event_chain::table
        .select((
            event_chain::origin,
            event_chain::sequence,
            event_chain::hash,
            event_chain::linked_at,
            event_chain::cut_sequence,
            event_chain::cut_hash,
        ))
        .get_result(conn)?;
    Ok(EventChain {
        origin: uuid(&origin)?,
        sequence: number(sequence)?,
        hash: as_hash(hash)?,
        linked_at: optional_timestamp(linked_at)?,
        cut_sequence: number(cut_sequence)?,
        cut_hash: as_hash(cut_hash)?,
        observed_at: now,
    })
}

fn linked(conn: &mut SqliteConnection, after: u64, limit: u32) -> QueryResult<Vec<LinkedEvent>> {
    let rows: Vec<LinkedRow> = events::table
        .filter(events::sequence.gt(stored(after)))
        .order(events::sequence)
        .limit(i64::from(limit))
        .select(LinkedRow::as_select())
        .load(conn)?;
    rows.into_iter().map(LinkedRow::read).collect()
}

fn heads(conn: &mut SqliteConnection, after: u64, limit: u32) -> QueryResult<Vec<KeptHead>> {
    let rows: Vec<(i64, Vec<u8>, String)> = event_heads::table
        .filter(event_heads::sequence.gt(stored(after)))
        .order(event_heads::sequence)
        .limit(i64::from(limit))
        .select((event_heads::sequence, event_heads::hash, event_heads::note))
        .load(conn)?;
    let heads = rows
        .into_iter()
        .map(|(sequence, hash, note)| Ok(KeptHead { sequence: number(sequence)?, hash, note }));
    heads.collect()
}

fn keep_head(
    conn: &mut SqliteConnection,
    SignedHead { head, note }: &SignedHead,
) -> QueryResult<()> {
    diesel::insert_into(event_heads::table)
        .values((
            event_heads::sequence.eq(stored(head.sequence)),
            event_heads::hash.eq(head.hash.as_slice()),
            event_heads::signed_at.eq(head.at.timestamp_micros()),
            event_heads::note.eq(note),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .map(drop)
}

fn as_hash(bytes: Vec<u8>) -> QueryResult<Hash> {
    bytes.try_into().map_err(|_| unreadable("hash"))
}
