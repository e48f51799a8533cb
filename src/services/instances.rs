//! The processes that serve, for operators.

use super::ServiceError;
use crate::domain::{Instance, Page, PageRequest};
use crate::storage::Store;

/// Lists instances. Clones share the store.
#[derive(Clone)]
pub struct Instances {
    store: Store,
}

impl Instances {
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Those of the last week, the latest start first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Instance>, ServiceError> {
        Ok(self.store.instances(page).await?)
    }
}
