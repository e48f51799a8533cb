//! What a store tells of changes of DIDs, by whoever made them.

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::domain::Did;

/// Something about what is stored of DIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DidChange {
    /// This DID was stored, forgotten, or read with a new result.
    Changed(Did),
    /// This DID was revoked, `here` if through this very store.
    Revoked { did: Did, here: bool },
    /// Anything may have changed. After [`Self::Blind`]: changes are heard again.
    Everything,
    /// Changes are not heard, until [`Self::Everything`].
    Blind,
}

/// The changes since `watch_dids` was called. It starts as blind.
pub struct DidChanges(Source);

enum Source {
    /// Whoever watches too slowly hears of everything instead.
    Channel(broadcast::Receiver<DidChange>),
    /// Says that anything changed, and nothing more.
    File(watch::Receiver<u64>),
}

impl DidChanges {
    pub(crate) const fn of_channel(changes: broadcast::Receiver<DidChange>) -> Self {
        Self(Source::Channel(changes))
    }

    pub(crate) fn of_file(mut changes: watch::Receiver<u64>) -> Self {
        changes.mark_changed();
        Self(Source::File(changes))
    }

    /// The next change; `None` when the store is closed.
    pub async fn next(&mut self) -> Option<DidChange> {
        match &mut self.0 {
            Source::Channel(changes) => match changes.recv().await {
                Ok(change) => Some(change),
                Err(RecvError::Lagged(_)) => Some(DidChange::Everything),
                Err(RecvError::Closed) => None,
            },
            Source::File(changes) => changes.changed().await.ok().map(|()| DidChange::Everything),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_too_slow_hears_of_everything() {
        let (sender, watcher) = broadcast::channel(2);
        let mut changes = DidChanges::of_channel(watcher);
        let about = |n: u32| DidChange::Changed(Did::parse(&format!("did:a:{n}")).unwrap());
        for number in 0..5 {
            sender.send(about(number)).unwrap();
        }
        sender.send(DidChange::Blind).unwrap();
        assert_eq!(changes.next().await, Some(DidChange::Everything));
        assert_eq!(changes.next().await, Some(about(4)));
        assert_eq!(changes.next().await, Some(DidChange::Blind));
        drop(sender);
        assert_eq!(changes.next().await, None);
    }
}
