//! Search by words.

use super::ServiceError;
use crate::domain::{PageRequest, Search, Searched};
use crate::storage::Store;

/// Searches. Clones share the store.
#[derive(Clone)]
pub struct Searches {
    store: Store,
}

impl Searches {
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// What has all of these words, the newest first.
    pub async fn search(
        &self,
        search: &Search,
        page: &PageRequest,
    ) -> Result<Searched, ServiceError> {
        Ok(self.store.search(search, page).await?)
    }
}
