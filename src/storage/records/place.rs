//! Where a reader of an owner's changes goes on, and whether it can: it must have missed no deletion.

use uuid::Uuid;

use crate::domain::RecordCursor;

/// How far an owner's changes reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) id: Uuid,
    /// Of the last change.
    pub(crate) last: i64,
    /// Of the last tombstone that was removed.
    pub(crate) forgotten: i64,
}

/// The place to read from; `None` when the reader must read everything anew: the owner was erased,
/// the database was put back, or tombstones that the reader has not seen are removed.
pub(crate) fn go_on(
    since: Option<RecordCursor>,
    generation: Uuid,
    owner: Option<Reach>,
) -> Option<RecordCursor> {
    let id = owner.map_or(Uuid::nil(), |owner| owner.id);
    let began = owner.map_or(0, |owner| owner.forgotten);
    let Some(cursor) = since.filter(|cursor| !cursor.is_at_beginning()) else {
        return Some(RecordCursor { owner: id, generation, sequence: 0, began });
    };
    let reaches = |owner: &Reach| {
        cursor.sequence <= owner.last && owner.forgotten <= cursor.sequence.max(cursor.began)
    };
    let is_same = |owner: &Reach| cursor.owner == owner.id && cursor.generation == generation;
    owner.filter(|owner| is_same(owner) && reaches(owner)).map(|_| cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_one_owner_one_generation_and_within_reach() {
        let [id, generation, other] = [1, 2, 3].map(Uuid::from_u128);
        let owner = Some(Reach { id, last: 9, forgotten: 5 });
        let cursor = RecordCursor { owner: id, generation, sequence: 7, began: 0 };
        for fits in [
            cursor,
            RecordCursor { sequence: 5, ..cursor },
            RecordCursor { sequence: 9, ..cursor },
            // What was removed had been deleted before the reader began.
            RecordCursor { sequence: 2, began: 5, ..cursor },
        ] {
            assert_eq!(go_on(Some(fits), generation, owner), Some(fits));
        }
        for (cursor, owner) in [
            (RecordCursor { owner: other, ..cursor }, owner),
            (RecordCursor { generation: other, ..cursor }, owner),
            (RecordCursor { sequence: 4, began: 4, ..cursor }, owner),
            (RecordCursor { sequence: 10, ..cursor }, owner),
            (cursor, None),
        ] {
            assert_eq!(go_on(Some(cursor), generation, owner), None, "{cursor:?}");
        }
    }

    #[test]
    fn a_reader_that_has_nothing_missed_nothing() {
        let [id, generation, other] = [1, 2, 3].map(Uuid::from_u128);
        let owner = Some(Reach { id, last: 9, forgotten: 5 });
        let beginning = RecordCursor { owner: id, generation, sequence: 0, began: 5 };
        let of_none = RecordCursor { owner: Uuid::nil(), generation: other, sequence: 0, began: 0 };
        assert_eq!(go_on(None, generation, owner), Some(beginning));
        assert_eq!(go_on(Some(of_none), generation, owner), Some(beginning));
        let none = RecordCursor { generation, ..of_none };
        assert_eq!(go_on(Some(of_none), generation, None), Some(none));
    }
}
