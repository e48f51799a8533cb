//! Which mark was kept outside of the database, for the next start.

use uuid::Uuid;

use crate::storage::{Mark, Server};

/// What the last mark says.
#[derive(Debug)]
pub(super) struct Kept {
    generation: Uuid,
    counter: u64,
    server: Option<Server>,
}

impl Kept {
    /// Of an instance that has kept none. Its first heartbeat follows before it decides.
    pub(super) const fn none(generation: Uuid, server: Server) -> Self {
        Self { generation, counter: 0, server: Some(server) }
    }

    /// Whether the mark is of this generation and this server.
    pub(super) fn is_of(&self, generation: Uuid, server: Server) -> bool {
        self.generation == generation && self.server == Some(server)
    }

    /// Returns whether this mark is to be kept in the place of the last one. Heartbeats may be answered
    /// in another order than they were counted in: the highest counter of a server stays, and so does
    /// the mark of a new primary.
    pub(super) fn yields_to(&mut self, mark: &Mark) -> bool {
        let is_old = match (self.server, mark.server) {
            (Some(kept), Some(server)) => kept.was_promoted_from(server),
            _ => false,
        };
        let is_late = self.server == mark.server && self.counter >= mark.counter;
        if self.generation == mark.generation && (is_old || is_late) {
            return false;
        }
        let Mark { generation, counter, server, .. } = *mark;
        *self = Self { generation, counter, server };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn a_heartbeat_that_is_answered_late_takes_no_mark_back() {
        let (generation, next) = (Uuid::now_v7(), Uuid::now_v7());
        let (system_identifier, timeline, database_oid, nonces_oid) = (1, 1, 1, 1);
        let before = Server { system_identifier, timeline, database_oid, nonces_oid };
        let after = Server { timeline: 2, ..before };
        let mut kept = Kept::none(generation, before);
        for (generation, server, counter, yields) in [
            (generation, before, 1, true),
            (generation, before, 3, true),
            (generation, before, 2, false),
            (generation, before, 3, false),
            (generation, before, 4, true),
            // The new primary counts on from what it has, whatever the old one counted for itself.
            (generation, after, 4, true),
            (generation, before, 9, false),
            (generation, after, 5, true),
            (next, after, 1, true),
            (next, after, 1, false),
        ] {
            let mark = Mark {
                generation,
                instance: Uuid::nil(),
                counter,
                at: Timestamp::UNIX_EPOCH,
                issued_until: None,
                server: Some(server),
            };
            let was_of = kept.is_of(generation, server);
            assert_eq!(kept.yields_to(&mark), yields, "{mark:?}");
            assert_eq!(kept.is_of(generation, server), yields || was_of, "{mark:?}");
        }
    }
}
