//! Which mark was kept outside of the database, for the next start.

use uuid::Uuid;

use crate::storage::{Mark, Server};

#[derive(Debug)]
pub(super) struct Kept {
    /// Of the last mark.
    generation: Uuid,
    counter: u64,
    /// The server that may be decided on: a mark was kept after this instance had come to it.
    server: Server,
}

impl Kept {
    /// Of an instance that has kept none. Its first heartbeat follows before it decides.
    pub(super) const fn none(generation: Uuid, server: Server) -> Self {
        Self { generation, counter: 0, server }
    }

    /// Whether a mark is of this generation and this server.
    pub(super) fn is_of(&self, generation: Uuid, server: Server) -> bool {
        self.generation == generation && self.server == server
    }

    pub(super) const fn arrived_at(&mut self, server: Server) {
        self.server = server;
    }

    /// Returns whether this mark is to be kept in the place of the last one. Heartbeats may be answered
    /// in another order than they were counted in: the highest counter of a generation stays, and so
    /// does the mark of a new primary.
    pub(super) fn yields_to(&mut self, mark: &Mark) -> bool {
        let is_late = self.counter >= mark.counter
            || mark.server.is_some_and(|server| self.server.was_promoted_from(server));
        if self.generation == mark.generation && is_late {
            return false;
        }
        (self.generation, self.counter) = (mark.generation, mark.counter);
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
        let server = Server { system_identifier, timeline, database_oid, nonces_oid };
        let mark = |generation, counter| Mark {
            generation,
            instance: Uuid::nil(),
            counter,
            at: Timestamp::UNIX_EPOCH,
            issued_until: None,
            server: None,
        };
        let mut kept = Kept::none(generation, server);
        for (generation, counter, yields) in [
            (generation, 1, true),
            (generation, 3, true),
            (generation, 2, false),
            (generation, 4, true),
            (next, 1, true),
            (next, 1, false),
        ] {
            assert_eq!(kept.yields_to(&mark(generation, counter)), yields, "{counter}");
        }
        assert!(kept.is_of(next, server) && !kept.is_of(generation, server));
        let promoted = Server { timeline: 2, ..server };
        assert!(!kept.is_of(next, promoted));
        kept.arrived_at(promoted);
        assert!(kept.is_of(next, promoted) && !kept.is_of(next, server));
        let of = |server| Mark { server: Some(server), ..mark(next, 9) };
        assert!(!kept.yields_to(&of(server)), "an old primary counts for itself");
        assert!(kept.yields_to(&of(promoted)));
    }
}
