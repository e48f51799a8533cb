//! The queues of claims: three for each kind.

use std::sync::Arc;

use super::asking::Asking;
use super::batch::Way;
use crate::services::queue::Queue;
use crate::storage::ClaimKind;

pub(super) struct Lines {
    pub(super) in_session: Line,
    pub(super) counted: Line,
    pub(super) by_signer: Line,
    pub(super) by_signer_in_session: Line,
}

/// The claims of one kind.
pub(super) struct Line {
    /// It waits for no lock.
    pub(super) queue: Arc<Queue<Asking>>,
    /// Of what that skipped; it waits for all locks together.
    pub(super) skipped: Arc<Queue<Asking>>,
    /// Of rows that stay locked; it waits for each by itself.
    pub(super) by_row: Arc<Queue<Asking>>,
}

impl Line {
    pub(super) const fn queue(&self, way: Way) -> &Arc<Queue<Asking>> {
        match way {
            Way::Skip => &self.queue,
            Way::Together => &self.skipped,
            Way::ByRow => &self.by_row,
        }
    }
}

impl Lines {
    pub(super) fn of(&self, kind: ClaimKind) -> &Line {
        match kind {
            ClaimKind::InSession => &self.in_session,
            ClaimKind::Counted => &self.counted,
            ClaimKind::BySigner => &self.by_signer,
            ClaimKind::BySignerInSession => &self.by_signer_in_session,
        }
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &Arc<Queue<Asking>>> {
        [&self.in_session, &self.counted, &self.by_signer, &self.by_signer_in_session]
            .into_iter()
            .flat_map(|line| [&line.queue, &line.skipped, &line.by_row])
    }
}
