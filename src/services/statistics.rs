//! What the database holds, for operators.

use super::ServiceError;
use crate::domain::Timestamp;
use crate::storage::{self, DeliveryCounts, Store, WebhookCounts};

/// Counts and sizes. Clones share the store.
#[derive(Clone)]
pub struct Statistics {
    store: Store,
}

impl Statistics {
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// `postgresql` or `sqlite`.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        self.store.backend()
    }

    /// When the last backup was made, as far as the database knows.
    pub async fn last_backup(&self) -> Result<Option<Timestamp>, ServiceError> {
        Ok(self.store.last_backup().await?)
    }

    /// Webhooks by state, and what is left to send to them or was given up.
    pub async fn webhooks(&self) -> Result<(WebhookCounts, DeliveryCounts), ServiceError> {
        Ok((self.store.webhook_counts().await?, self.store.delivery_counts().await?))
    }

    /// Counts, sizes and the `top` busiest clients.
    pub async fn read(&self, top: u32) -> Result<storage::Statistics, ServiceError> {
        Ok(self.store.statistics(top).await?)
    }
}
