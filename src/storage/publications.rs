//! Calls that publish events, each at most once for its key.

use super::{Result, Store, on};
use crate::domain::{NewEvent, PublicationKey, Published};

impl Store {
    /// Writes events as [`Self::publish`] does, unless a call with this key was made before: then it
    /// returns the ids of that one. Two calls at the same moment write once.
    pub async fn publish_once(
        &self,
        events: Vec<NewEvent>,
        key: PublicationKey,
    ) -> Result<Published> {
        on!(self, store => store.publish_once(events, key).await)
    }
}
