//! A call that publishes events, and what makes it safe to repeat.

use uuid::Uuid;

use super::{Cursor, Event, IdempotencyDigest, InvalidCursor};

/// How long a repeat of a call gets the ids of the first, in seconds.
pub const PUBLICATION_KEPT_SECONDS: u32 = 86_400;

/// What a repeat is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationKey {
    /// Of the caller and its key.
    pub digest: IdempotencyDigest,
    /// SHA-256 of what is published: a key is for that only.
    pub content: [u8; 32],
}

/// What became of a call that publishes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The ids of the events, in their order.
    Done {
        ids: Vec<Uuid>,
        /// Whether an earlier call with the same key wrote them.
        repeated: bool,
    },
    /// The key was used for other events. Nothing was written.
    OtherContent,
}

/// What a reader of the log gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventPage {
    Page {
        /// In the order of the log.
        events: Vec<Event>,
        next: EventCursor,
    },
    /// Events that the cursor has not seen are removed.
    CursorExpired,
}

/// Where a reader of the log has come to. Its text is opaque to callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCursor {
    /// The place of the last event that was read, or that the reader did not ask for.
    pub sequence: u64,
}

impl EventCursor {
    /// # Errors
    /// [`InvalidCursor`] when the text was not made by the log.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let cursor = Cursor::parse(text)?;
        let sequence = cursor.position().try_into().map_err(|_| InvalidCursor)?;
        let sequence = u64::from_be_bytes(sequence);
        if i64::try_from(sequence).is_ok() { Ok(Self { sequence }) } else { Err(InvalidCursor) }
    }

    #[must_use]
    pub fn encode(&self) -> String {
        Cursor::new(self.sequence.to_be_bytes().to_vec()).encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        for sequence in [0, 1, 7_000_000_000, i64::MAX as u64] {
            let cursor = EventCursor { sequence };
            assert_eq!(EventCursor::parse(&cursor.encode()), Ok(cursor));
        }
        let too_far = Cursor::new(u64::MAX.to_be_bytes().to_vec()).encode();
        for text in ["", "AA", "7", "!", &too_far] {
            assert_eq!(EventCursor::parse(text), Err(InvalidCursor), "{text:?}");
        }
    }
}
