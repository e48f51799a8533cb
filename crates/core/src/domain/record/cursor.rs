//! Where a reader of an owner's changes has come to. Its text is opaque to callers.

use uuid::Uuid;

use super::super::{Cursor, InvalidCursor};

/// A place in an owner's changes. It means nothing once the owner was erased, or once the database
/// was put back to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCursor {
    /// The owner's row; nil when there was none.
    pub owner: Uuid,
    /// The database's generation.
    pub generation: Uuid,
    /// The last change that was read.
    pub sequence: i64,
    /// The last tombstone that had been removed when its reader began. The reader never saw those
    /// records, and need not learn that they were deleted.
    pub began: i64,
}

impl RecordCursor {
    /// # Errors
    /// [`InvalidCursor`] when the text was not made by a feed.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let cursor = Cursor::parse(text)?;
        let (owner, rest) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
        let (generation, rest) = rest.split_first_chunk().ok_or(InvalidCursor)?;
        let (sequence, began) = rest.split_first_chunk().ok_or(InvalidCursor)?;
        let began = i64::from_be_bytes(began.try_into().map_err(|_| InvalidCursor)?);
        let sequence = i64::from_be_bytes(*sequence);
        if sequence < 0 || began < 0 {
            return Err(InvalidCursor);
        }
        let (owner, generation) = (Uuid::from_bytes(*owner), Uuid::from_bytes(*generation));
        Ok(Self { owner, generation, sequence, began })
    }

    #[must_use]
    pub fn encode(&self) -> String {
        let (sequence, began) = (self.sequence.to_be_bytes(), self.began.to_be_bytes());
        let parts =
            [self.owner.as_bytes().as_slice(), self.generation.as_bytes(), &sequence, &began];
        Cursor::new(parts.concat()).encode()
    }

    /// Whether its reader has read nothing yet, so that it has missed nothing either.
    #[must_use]
    pub const fn is_at_beginning(&self) -> bool {
        self.owner.is_nil()
    }
}
