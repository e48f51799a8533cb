//! Hears of changes of DIDs, which a trigger tells (see the migration `did_documents`), on a
//! connection of its own.
//!
//! A lost connection is noticed at once when it is closed, and otherwise, when server or network
//! fell silent, within [`SILENCE`] and [`PATIENCE`] together. What changed meanwhile is not told
//! again: once another connection listens, everything may have changed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::StreamExt;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::domain::Did;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::connect::Connector;
use crate::storage::{DidChange, DidChanges, milliseconds};

/// Also shows operators what the connection is for. To listen again changes nothing.
const LISTEN: &str = "LISTEN dids";
/// Held by a connection that listens, and so by each instance that serves: `migrate down` asks who
/// does. `LISTEN` itself is seen by its own session only.
pub(crate) const SERVING: i64 = 7_164_920_183_550_215;
/// For how long nothing is heard before the connection is tried.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an answer may take before the connection counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// The wait before the second try to connect, which grows from try to try, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Changes that may wait for a watcher.
const ROOM: usize = 1024;

impl PostgresStore {
    #[must_use]
    pub fn watch_dids(&self) -> DidChanges {
        let (changes, watcher) = broadcast::channel(ROOM);
        let listener = Listener {
            connector: Arc::clone(&self.general),
            instance: self.instance.to_string(),
            changes,
        };
        let closing = self.closing.clone();
        self.runtime.spawn(self.open.track_future(listener.run(closing)));
        DidChanges::of_channel(watcher)
    }
}

struct Listener {
    connector: Arc<Connector>,
    instance: String,
    changes: broadcast::Sender<DidChange>,
}

impl Listener {
    /// Listens until the store is closed or nobody watches any more.
    async fn run(self, closing: CancellationToken) {
        tokio::select! {
            () = closing.cancelled() => {}
            () = self.changes.closed() => {}
            () = self.listen() => {}
        }
    }

    async fn listen(&self) {
        loop {
            let mut connection = self.connect().await;
            self.tell(DidChange::Everything);
            let why = self.hear(&mut connection).await;
            self.tell(DidChange::Blind);
            tracing::warn!(
                why,
                "changes of DIDs are not heard, and the cache is not trusted until they are"
            );
        }
    }

    /// A connection that listens, however long it takes to get one.
    async fn connect(&self) -> AsyncPgConnection {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            match self.try_to_connect().await {
                Ok(connection) => return connection,
                Err(why) => {
                    let wait = waits.next().unwrap_or(LONGEST_WAIT);
                    let wait_milliseconds = milliseconds(wait);
                    tracing::warn!(why, wait_milliseconds, "cannot listen for changes of DIDs");
                    sleep(wait).await;
                }
            }
        }
    }

    async fn try_to_connect(&self) -> Result<AsyncPgConnection, String> {
        let mut connection = self.connector.attempt().await.map_err(|error| error.to_string())?;
        let serve = format!("SELECT pg_advisory_lock_shared({SERVING})");
        let serving = connection.batch_execute(&serve).await;
        serving.map_err(|error| error.to_string())?;
        listen(&mut connection).await?;
        Ok(connection)
    }

    /// Tells of what it hears, until the connection is lost, and returns why it is.
    async fn hear(&self, connection: &mut AsyncPgConnection) -> String {
        loop {
            let heard = {
                let mut notifications = pin!(connection.notifications_stream());
                timeout(SILENCE, notifications.next()).await
            };
            match heard {
                Ok(Some(Ok(notification))) => {
                    self.tell(change(&notification.payload, &self.instance));
                }
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(None) => return "the connection was closed".into(),
                Err(_) => {
                    if let Err(why) = listen(connection).await {
                        return why;
                    }
                }
            }
        }
    }

    fn tell(&self, change: DidChange) {
        // Without a watcher there is nobody to tell, and `run` ends.
        let _ = self.changes.send(change);
    }
}

/// What a notification to the store of this name tells.
fn change(payload: &str, here: &str) -> DidChange {
    let did = |text| Did::parse(text).ok();
    let change = match *payload.split(' ').collect::<Vec<_>>() {
        ["changed", text] => did(text).map(DidChange::Changed),
        ["revoked", by, text] => did(text).map(|did| DidChange::Revoked { did, here: by == here }),
        _ => None,
    };
    // Whatever this version has no word for, or a DID that is none.
    change.unwrap_or(DidChange::Everything)
}

/// Sees that the connection listens, and that it still answers.
async fn listen(connection: &mut AsyncPgConnection) -> Result<(), String> {
    match timeout(PATIENCE, connection.batch_execute(LISTEN)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_understand_may_be_anything() {
        let did = Did::parse("did:a:b").unwrap();
        let revoked = |here| DidChange::Revoked { did: did.clone(), here };
        for (payload, expected) in [
            ("changed did:a:b", DidChange::Changed(did.clone())),
            ("revoked me did:a:b", revoked(true)),
            ("revoked you did:a:b", revoked(false)),
            ("revoked - did:a:b", revoked(false)),
            ("everything", DidChange::Everything),
            ("changed not a DID", DidChange::Everything),
            ("changed did:a:", DidChange::Everything),
            ("changed did:a:b did:a:c", DidChange::Everything),
            ("revoked did:a:b", DidChange::Everything),
            ("moved did:a:b", DidChange::Everything),
            ("", DidChange::Everything),
        ] {
            assert_eq!(change(payload, "me"), expected, "{payload:?}");
        }
    }
}
