//! Adds the words of DIDs and sessions that were stored without them: before there was a search, by an
//! older version, by a restore. Until it is done, a search is refused. Each instance looks; of several,
//! each takes what no other has.

use std::time::Duration;

use super::scheduler::{JobError, LeaseKeeper};
use crate::storage::Store;

pub(super) const NAME: &str = "words";
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// The most rows of each table that are locked at a time.
const BATCH: u32 = 100;

pub(super) async fn run(store: &Store, keeper: &mut LeaseKeeper) -> Result<(), JobError> {
    let mut added = 0;
    loop {
        keeper.renew().await?;
        let batch = store.index_words(BATCH).await?;
        if batch == 0 {
            break;
        }
        added += batch;
    }
    if added > 0 {
        tracing::info!(job = NAME, added, "added DIDs and sessions to the index of the search");
    }
    Ok(())
}
