//! Entity tags of records, and what a change asks of the version that it replaces.

use std::fmt;

/// Which version of a record: its number, and the random bytes of the write that made it. The number
/// alone could come again, after an erasure or when the database was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordTag {
    pub version: i64,
    pub random: [u8; 8],
}

/// As an `ETag` has it, in its quotes: `"3.00f1e2d3c4b5a697"`.
impl fmt::Display for RecordTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.version, base16ct::lower::encode_string(&self.random))
    }
}

/// What must be true of a record for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// There is none: `If-None-Match: *`.
    Absent,
    /// There is one: `If-Match: *`.
    Present,
    /// It is one of these, in their quotes: `If-Match`.
    Tags(Vec<String>),
}

impl Precondition {
    /// By the tag of the record that is there; tombstones are not.
    #[must_use]
    pub fn holds(&self, current: Option<&RecordTag>) -> bool {
        match self {
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Tags(tags) => current.is_some_and(|tag| tags.contains(&tag.to_string())),
        }
    }
}
