//! How many sessions agents may open. Their keys cost nothing, so each is counted by its DID, by
//! the peer that it calls from, and together with all others; holders of tokens are not.
//!
//! What is counted per minute is counted by each instance for itself. What is live is asked of the
//! database: exactly for one client, but for openings at the same moment; by the last sample for
//! all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;

use super::ServiceError;
use crate::config;
use crate::domain::{Did, Peer, SignerKey};
use crate::metrics::Metrics;
use crate::storage::Store;

const WINDOW: Duration = Duration::from_mins(1);
/// Minutes that are counted at the same time. When there are more, the least used are forgotten:
/// a peer with so many DIDs is bounded by its own count.
const WINDOWS: u64 = 100_000;

/// Clones share the counts.
#[derive(Clone)]
pub struct Agents {
    store: Store,
    metrics: Arc<Metrics>,
    config: config::Agents,
    minutes: Cache<Counted, Arc<Minute>>,
}

/// Whose openings are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Client(SignerKey),
    Peer(Peer),
    /// Not per server over all peers: then strangers could shut a server's own clients out.
    AtServer(Peer, SignerKey),
    All,
}

struct Minute {
    began: Instant,
    openings: AtomicU32,
}

/// An agent may not open a session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    #[error("this agent opened {0} sessions within a minute, which is the most")]
    ByClient(u32),
    #[error("agents at this address opened {0} sessions within a minute, which is the most")]
    ByPeer(u32),
    #[error(
        "agents at this address opened {0} sessions with this server within a minute, which is the most"
    )]
    AtServer(u32),
    #[error("agents opened {0} sessions within a minute, which is the most for all of them")]
    ByAll(u32),
    #[error(
        "this agent has {0} live sessions, which is the most; end one, or wait until one expires"
    )]
    LiveOfClient(u32),
    #[error("there are {0} live sessions, which is the most at which agents may open another")]
    LiveOfAll(u64),
}

impl TooMany {
    /// For the label of a metric.
    const fn reason(self) -> &'static str {
        match self {
            Self::ByClient(_) => "did",
            Self::ByPeer(_) => "peer",
            Self::AtServer(_) => "server",
            Self::ByAll(_) => "all",
            Self::LiveOfClient(_) => "live_did",
            Self::LiveOfAll(_) => "live_all",
        }
    }
}

impl Agents {
    #[must_use]
    pub fn new(store: Store, config: &config::Agents, metrics: Arc<Metrics>) -> Self {
        let minutes = Cache::builder().max_capacity(WINDOWS).time_to_live(WINDOW).build();
        Self { store, metrics, config: config.clone(), minutes }
    }

    /// Counts an opening. Inside, why there may be none, and when it is worth another try.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn may_open(
        &self,
        client: &Did,
        server: &Did,
        peer: Peer,
    ) -> Result<Result<(), (TooMany, Duration)>, ServiceError> {
        let refused = self.refuse(client, server, peer).await?;
        if let Some((too_many, _)) = refused {
            self.metrics.refused("agent_sessions", too_many.reason());
        }
        Ok(refused.map_or(Ok(()), Err))
    }

    async fn refuse(
        &self,
        client: &Did,
        server: &Did,
        peer: Peer,
    ) -> Result<Option<(TooMany, Duration)>, ServiceError> {
        let config::Agents {
            sessions_per_minute: by_client,
            sessions_per_minute_per_peer: by_peer,
            sessions_per_minute_per_server: at_server,
            sessions_per_minute_in_all: by_all,
            live_sessions,
            live_sessions_in_all,
            ..
        } = self.config;
        // What is one's own comes first, so that one's own excess does not use up the others'.
        for (counted, most, too_many) in [
            (Counted::Client(client.signer_key()), by_client, TooMany::ByClient(by_client)),
            (Counted::AtServer(peer, server.signer_key()), at_server, TooMany::AtServer(at_server)),
            (Counted::Peer(peer), by_peer, TooMany::ByPeer(by_peer)),
            (Counted::All, by_all, TooMany::ByAll(by_all)),
        ] {
            if let Some(wait) = self.count(counted, most).await {
                return Ok(Some((too_many, wait)));
            }
        }
        let live = u64::try_from(self.metrics.sessions_active.get()).unwrap_or_default();
        if live >= live_sessions_in_all {
            return Ok(Some((TooMany::LiveOfAll(live), WINDOW)));
        }
        if self.store.live_sessions(client, live_sessions).await? >= live_sessions {
            return Ok(Some((TooMany::LiveOfClient(live_sessions), WINDOW)));
        }
        Ok(None)
    }

    /// How long to wait when there were too many in the minute that began with the first.
    async fn count(&self, counted: Counted, most: u32) -> Option<Duration> {
        let new = async { Arc::new(Minute { began: Instant::now(), openings: AtomicU32::new(0) }) };
        let minute = self.minutes.get_with(counted, new).await;
        let before = minute.openings.fetch_add(1, Ordering::Relaxed);
        (before >= most).then(|| WINDOW.saturating_sub(minute.began.elapsed()))
    }
}
