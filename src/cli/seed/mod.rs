//! `onceguard seed`: sample data for a new database. It never touches a database that holds other
//! data. It can be stopped and run again.

mod event;
mod set;
mod webhook;

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Failure, database, out};
use crate::config::{Config, Records, Sessions};
use crate::domain::{
    Ask, DidFilter, MAX_PAGE, Metadata, NewDid, NewSession, Opened, OwnType, PageRequest,
    Precondition, RecordChange, RecordLimits, RecordsChanged, SessionFilter, StateFilter,
};
use crate::services::{Sealer, SealingKeys, admit_keys};
use crate::storage::{Asked, OnLock, RecordWriter, Store};

use event::event;
use set::{SampleRecord, Set};

#[derive(Debug, Args)]
#[command(after_help = "dev: 4 DIDs (3 active, 1 revoked), 3 sessions, 3 nonces, \
    6 records.\n\
    staging: 50 DIDs (5 revoked), 180 sessions, 1800 nonces, 450 records, 1 webhook (paused).\n\n\
    Anyone can derive the keys of the sample DIDs, so never seed a database that matters.\n\n\
    Example:\n  onceguard migrate up && onceguard seed dev")]
pub(super) struct Seed {
    /// How much sample data to make
    #[arg(value_enum, default_value = "dev")]
    set: Size,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Size {
    Dev,
    Staging,
}

impl Seed {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let set = match self.set {
            Size::Dev => Set::dev(),
            Size::Staging => Set::staging(),
        }
        .map_err(Failure::Failed)?;
        let store = database::open_migrated(&config).await?;
        let result = fill(&store, &config, &set).await;
        store.close().await;
        result
    }
}

async fn fill(store: &Store, config: &Config, set: &Set) -> Result<(), Failure> {
    let holds_other = store.holds_data().await? && !holds_only(store, set).await?
        || sends_other(store, set).await?;
    if holds_other {
        return Err(Failure::Refused(
            "the database holds other data, and sample data must not be mixed with it; \
             name an empty database with --database-url or --data-dir"
                .to_owned(),
        ));
    }
    let may_create = !config.database.is_postgres();
    let sealer = Sealer::new(&SealingKeys::load(&config.sealing, &config.data_dir, may_create)?);
    admit_keys(&sealer, store).await?;
    put_dids(store, set).await?;
    let opened = open_sessions(store, &sealer, &config.sessions, set).await?;
    let used = use_nonces(store, set).await?;
    let written = write_records(store, &config.records, set).await?;
    revoke(store, set).await?;
    let sends = match &set.webhook {
        Some(sample) => webhook::make(store, &sealer, sample).await?,
        None => false,
    };
    if opened == 0 && used == 0 && written == 0 && !sends {
        out::note("the sample data was there already");
    }
    out::line(format!(
        "{} DIDs ({} revoked), {} sessions, {} nonces, {} records, {} webhooks",
        set.dids.len(),
        set.dids.iter().filter(|did| did.revoked).count(),
        set.sessions.len(),
        set.claims.len(),
        set.records.len(),
        usize::from(set.webhook.is_some())
    ))
}

/// Whether everything in the database is from an earlier run of the same seed.
async fn holds_only(store: &Store, set: &Set) -> Result<bool, Failure> {
    let page = PageRequest { limit: MAX_PAGE, after: None };
    let dids = store.list_dids(&DidFilter::default(), &page).await?;
    let every = SessionFilter { state: StateFilter::All, ..SessionFilter::default() };
    let sessions = store.list_sessions(&every, &page).await?;
    let owners = store.inactive_owners(Duration::ZERO, &page).await?;
    let ours = dids.items.iter().all(|found| set.dids.iter().any(|did| did.did == found.did))
        && sessions.items.iter().all(|found| set.sessions.iter().any(|s| s.id == found.id))
        && owners.items.iter().all(|found| set.records.iter().any(|r| r.owner == found.did));
    // Each set fits into one page, and a seed begins with its DIDs.
    let whole = dids.next.is_none() && sessions.next.is_none() && owners.next.is_none();
    Ok(ours && whole && !dids.items.is_empty())
}

/// Whether there is a webhook that this seed did not make.
async fn sends_other(store: &Store, set: &Set) -> Result<bool, Failure> {
    let ours = set.webhook.as_ref().map(|sample| sample.id);
    Ok(store.webhooks().await?.iter().any(|found| Some(found.webhook.id) != ours))
}

async fn put_dids(store: &Store, set: &Set) -> Result<(), Failure> {
    for sample in &set.dids {
        let new = NewDid { did: sample.did.clone(), key: sample.key.clone(), owner_address: None };
        store.put_did(new, event(OwnType::DidStored, &sample.did)).await?;
    }
    Ok(())
}

async fn open_sessions(
    store: &Store,
    sealer: &Sealer,
    limits: &Sessions,
    set: &Set,
) -> Result<usize, Failure> {
    let whole = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let seconds = whole(limits.max_ttl);
    let mut opened = 0;
    for sample in &set.sessions {
        let session_key = sealer.seal(&sample.key, sample.id, &sample.client, &sample.server)?;
        let new = NewSession {
            id: sample.id,
            id_is_chosen: false,
            retention_seconds: whole(limits.retention),
            client_did: sample.client.clone(),
            server_did: sample.server.clone(),
            session_key: Some(session_key),
            ttl_seconds: seconds,
            max_ttl_seconds: seconds,
            idle_timeout_seconds: None,
            max_claims: None,
            metadata: Metadata::kept(r#"{"sample":true}"#.to_owned()),
            user_agent: None,
            ip_address: None,
        };
        match store.open_session(new).await? {
            Opened::Created(_) => opened += 1,
            Opened::Exists => {}
            Opened::Revoked(did) => {
                return Err(Failure::Refused(format!("{did} was revoked; seed an empty database")));
            }
            Opened::BeforeRestore | Opened::Ahead => {
                return Err(Failure::Failed(
                    "the database refused the id of a sample session".to_owned(),
                ));
            }
        }
    }
    Ok(opened)
}

async fn use_nonces(store: &Store, set: &Set) -> Result<usize, Failure> {
    let mut used = 0;
    for claims in set.claims.chunks(500) {
        let ask = |claim| Ask { claim, wants_row: false, counted: false };
        let asks: Vec<_> = claims.iter().map(ask).collect();
        for asked in store.claim(&asks, OnLock::Wait).await {
            // No session of the set limits its claims.
            used += usize::from(matches!(asked?, Asked::Decided(facts) if facts.inserted));
        }
    }
    Ok(used)
}

async fn write_records(store: &Store, config: &Records, set: &Set) -> Result<usize, Failure> {
    let limits = RecordLimits {
        max_records: config.max_records,
        max_bytes: config.max_bytes,
        agents_max_records: config.agents_max_records,
        agents_max_bytes: config.agents_max_bytes,
    };
    let mut written = 0;
    for records in set.records.chunk_by(|one, next| one.owner == next.owner) {
        let Some(SampleRecord { owner, .. }) = records.first() else { continue };
        let change = |record: &SampleRecord| RecordChange {
            key: record.key.clone(),
            precondition: Precondition::Absent,
            random: record.random,
            put: Some(record.new.clone()),
        };
        let changes = records.iter().map(change).collect();
        match store.change_records(owner, RecordWriter::Holder, changes, limits).await? {
            RecordsChanged::Done(done) => written += done.len(),
            // All are there, because they are written together.
            RecordsChanged::PreconditionFailed(_) => {}
            RecordsChanged::Revoked => {
                return Err(Failure::Refused(format!(
                    "{owner} was revoked; seed an empty database"
                )));
            }
            RecordsChanged::QuotaReached(_) => {
                return Err(Failure::Refused(format!(
                    "{owner} may not have {} records; raise records.max_records and \
                     records.max_bytes",
                    records.len()
                )));
            }
        }
    }
    Ok(written)
}

async fn revoke(store: &Store, set: &Set) -> Result<(), Failure> {
    for sample in set.dids.iter().filter(|sample| sample.revoked) {
        store.revoke_did(&sample.did, event(OwnType::DidRevoked, &sample.did)).await?;
    }
    Ok(())
}
