//! `[identifiers]`: the calls of W3C DID Resolution.

use super::reader::Reader;

/// `[identifiers]`.
#[derive(Debug, Clone)]
pub struct Identifiers {
    /// Answer clients that send no credential.
    pub public: bool,
}

impl Identifiers {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { public: reader.boolean("identifiers.public", false) }
    }
}
