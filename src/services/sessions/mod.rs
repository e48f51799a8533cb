//! Sessions: open, read, change, end. Session keys are sealed before they reach the store and
//! opened only to be handed to a party.
//!
//! Openings, endings, touches and readings that wait at the same time are asked together: one
//! transaction, or one query, for all of a kind.

mod kinds;
mod lines;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join4;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::kinds::{End, Opening, Reading, Touch};
use self::lines::Line;
use super::{Sealer, ServiceError, event};
use crate::config;
use crate::domain::{
    Actor, Changed, Did, EndReason, Metadata, NewSession, Opened, OwnType, Page, PageRequest,
    Parties, Session, SessionFilter, SessionId, SessionPatch,
};
use crate::metrics::Metrics;
use crate::storage::{Ending, Store};

/// Sessions ended in one transaction when a call ends many.
const END_BATCH: u32 = 500;

/// The sessions. Clones share everything.
#[derive(Clone)]
pub struct Sessions {
    store: Store,
    sealer: Sealer,
    metrics: Arc<Metrics>,
    lines: Arc<Lines>,
    default_ttl: Duration,
    max_ttl: Duration,
    retention: Duration,
}

struct Lines {
    openings: Line<Opening>,
    endings: Line<End>,
    touches: Line<Touch>,
    readings: Line<Reading>,
}

/// What a caller asks for when it opens a session.
#[derive(Debug)]
pub struct OpenSession {
    /// `None`: the service chooses.
    pub id: Option<SessionId>,
    pub client_did: Did,
    pub server_did: Did,
    pub session_key: Option<Zeroizing<Vec<u8>>>,
    /// `None`: the configured default. At most the configured maximum.
    pub ttl_seconds: Option<u32>,
    pub idle_timeout_seconds: Option<u32>,
    pub max_claims: Option<u64>,
    pub metadata: Metadata,
    pub user_agent: Option<String>,
    pub ip_address: Option<IpAddr>,
}

/// What a caller asks to change; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct UpdateSession {
    pub metadata: Option<Metadata>,
    pub session_key: Option<Zeroizing<Vec<u8>>>,
    /// From now; the deadline stays.
    pub ttl_seconds: Option<u32>,
    pub expected_version: Option<i64>,
}

impl Sessions {
    /// Calls are asked on the current Tokio runtime.
    #[must_use]
    pub fn start(
        store: Store,
        sealer: Sealer,
        config: &config::Sessions,
        metrics: Arc<Metrics>,
    ) -> Self {
        let config::Sessions { default_ttl, max_ttl, retention } = *config;
        let lines = Arc::new(Lines {
            openings: Line::start(&store, &metrics),
            endings: Line::start(&store, &metrics),
            touches: Line::start(&store, &metrics),
            readings: Line::start(&store, &metrics),
        });
        Self { store, sealer, metrics, lines, default_ttl, max_ttl, retention }
    }

    /// # Errors
    /// [`ServiceError::Overloaded`] when too many wait, as for [`Self::read`], [`Self::touch`] and
    /// [`Self::end`]; nothing was changed.
    pub async fn open(&self, asked: OpenSession) -> Result<Opened, ServiceError> {
        // Ordered by time, so that new rows lie together in the indexes.
        let id = asked.id.unwrap_or_else(|| SessionId(Uuid::now_v7()));
        let session_key = asked
            .session_key
            .map(|key| self.sealer.seal(&key, id, &asked.client_did, &asked.server_did))
            .transpose()?;
        let new = NewSession {
            id,
            id_is_chosen: asked.id.is_some(),
            retention_seconds: seconds(self.retention),
            client_did: asked.client_did,
            server_did: asked.server_did,
            session_key,
            ttl_seconds: asked.ttl_seconds.unwrap_or_else(|| seconds(self.default_ttl)),
            max_ttl_seconds: seconds(self.max_ttl),
            idle_timeout_seconds: asked.idle_timeout_seconds,
            max_claims: asked.max_claims,
            metadata: asked.metadata,
            user_agent: asked.user_agent,
            ip_address: asked.ip_address,
        };
        self.lines.openings.ask(new).await
    }

    pub async fn read(&self, id: SessionId) -> Result<Option<Session>, ServiceError> {
        self.lines.readings.ask(id).await
    }

    /// A session with its opened key, if it has one.
    pub async fn key(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<Zeroizing<Vec<u8>>>)>, ServiceError> {
        let Some((session, sealed)) = self.store.session_key(id).await? else { return Ok(None) };
        let key = sealed
            .map(|sealed| self.sealer.open(&sealed, id, &session.client_did, &session.server_did))
            .transpose()?;
        Ok(Some((session, key)))
    }

    /// Writes down that `reader` is about to be given a session's key. It is committed before the
    /// key is handed out, which waits for that and fails with it: a key that was read without a
    /// trace cannot be taken back, and a refusal can be repeated.
    pub async fn record_key_reading(
        &self,
        session: &Session,
        reader: Actor,
    ) -> Result<(), ServiceError> {
        let event = event(OwnType::SessionKeyRead, reader, session.id, &json!({}));
        self.store.publish(vec![event]).await?;
        Ok(())
    }

    /// The party of a session that is revoked, if one is. Its sessions end with it, but not at
    /// the very moment.
    pub async fn revoked_party(&self, session: &Session) -> Result<Option<Did>, ServiceError> {
        for did in [&session.client_did, &session.server_did] {
            if self.store.did(did).await?.is_some_and(|record| record.revoked_at.is_some()) {
                return Ok(Some(did.clone()));
            }
        }
        Ok(None)
    }

    pub async fn list(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>, ServiceError> {
        Ok(self.store.list_sessions(filter, page).await?)
    }

    /// Changes a session on behalf of `actor`. A new key or a new expiry is written down.
    pub async fn update(
        &self,
        id: SessionId,
        asked: UpdateSession,
        actor: Actor,
    ) -> Result<Changed, ServiceError> {
        let changes_trust = asked.session_key.is_some() || asked.ttl_seconds.is_some();
        let event = changes_trust.then(|| {
            event(
                OwnType::SessionChanged,
                actor,
                id,
                &json!({
                    "session_key": asked.session_key.is_some(),
                    "ttl_seconds": asked.ttl_seconds,
                }),
            )
        });
        let session_key = match asked.session_key {
            None => None,
            Some(key) => {
                // The parties are part of what seals a key, and never change.
                let Some(session) = self.read(id).await? else {
                    return Ok(Changed::NotFound);
                };
                Some(self.sealer.seal(&key, id, &session.client_did, &session.server_did)?)
            }
        };
        let patch = SessionPatch {
            metadata: asked.metadata,
            session_key,
            ttl_seconds: asked.ttl_seconds,
            expected_version: asked.expected_version,
            audit: event,
        };
        Ok(self.store.update_session(id, patch).await?)
    }

    /// Records that the parties are active.
    pub async fn touch(&self, id: SessionId) -> Result<Changed, ServiceError> {
        self.lines.touches.ask(id).await
    }

    /// Ends a session on behalf of `outsider`, which is written down; `None` is one of its
    /// parties.
    pub async fn end(
        &self,
        id: SessionId,
        outsider: Option<&Actor>,
    ) -> Result<Changed, ServiceError> {
        let audit =
            outsider.map(|actor| event(OwnType::SessionEnded, actor.clone(), id, &json!({})));
        self.lines.endings.ask(Ending { id, reason: EndReason::Ended, audit }).await
    }

    /// Refuses new calls, and returns when all that are waiting have their answer.
    pub async fn close(&self) {
        let Lines { openings, endings, touches, readings } = &*self.lines;
        join4(openings.close(), endings.close(), touches.close(), readings.close()).await;
    }

    /// Ends all live sessions of these parties, in batches, and returns how many it ended. It is
    /// on behalf of `outsider`; `None` is a party of them all.
    pub async fn end_all(
        &self,
        parties: &Parties,
        outsider: Option<&Actor>,
    ) -> Result<u64, ServiceError> {
        let names = |did: &Option<Did>| did.as_ref().map(Did::to_string);
        let (client, server) = (names(&parties.client_did), names(&parties.server_did));
        let event = outsider.map(|actor| {
            event(
                OwnType::SessionsEnded,
                actor.clone(),
                client.iter().chain(server.iter()).cloned().collect::<Vec<_>>().join(" "),
                &json!({ "client_did": client, "server_did": server }),
            )
        });
        let mut total = 0;
        loop {
            let reason = EndReason::Ended;
            let ended = self.store.end_sessions(parties, reason, event.clone(), END_BATCH).await?;
            self.metrics.sessions_ended(reason, ended);
            total += ended;
            if ended < u64::from(END_BATCH) {
                return Ok(total);
            }
        }
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
