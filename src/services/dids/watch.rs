//! Keeps the cache true to changes by others: other instances, commands, and operators in SQL.

use tokio::task::JoinHandle;

use super::Dids;
use crate::domain::Did;
use crate::storage::{Act, DidChange, DidChanges};

impl Dids {
    /// Follows the changes until the store is closed. The cache is trusted while they are heard.
    #[must_use]
    pub fn watch(&self, mut changes: DidChanges) -> JoinHandle<()> {
        self.trust(false);
        let dids = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                dids.follow(change).await;
            }
            dids.trust(false);
        })
    }

    async fn follow(&self, change: DidChange) {
        match change {
            DidChange::Changed(did) => self.changed(&did).await,
            DidChange::Revoked { did, here } => {
                self.changed(&did).await;
                if !here {
                    // Not here: the next change must not wait for the database.
                    tokio::spawn(self.clone().heard_of_revocation(did));
                }
            }
            DidChange::Everything => {
                // In this order, or what was cached before would be trusted for a moment.
                self.all_changed();
                self.trust(true);
            }
            DidChange::Blind => self.trust(false),
        }
    }

    /// Remembers that a DID was revoked elsewhere, and measures how long ago, by the database's
    /// clock.
    async fn heard_of_revocation(self, did: Did) {
        if let Some(journal) = &self.journal {
            journal.write(journal.now(), Act::RevokeDid(did.clone())).await;
        }
        if let Ok(Some(record)) = self.store.did(&did).await
            && let Some(revoked_at) = record.revoked_at
        {
            let took = (record.observed_at - revoked_at).as_seconds_f64();
            self.metrics.revocation_seconds.with_label_values(&["elsewhere"]).observe(took);
        }
    }
}
