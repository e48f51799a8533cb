//! What the database did in the past that its rows no longer show.

use super::{Result, Store, on};
use crate::domain::Timestamp;

impl Store {
    /// The latest expiry of a signer's nonce that the purge removed. Claims that expire no later are
    /// refused, even if the clock says otherwise.
    pub async fn purged_until(&self) -> Result<Option<Timestamp>> {
        on!(self, store => store.purged_until().await)
    }
}
