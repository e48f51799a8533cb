//! Lists in pages: a limit, and an opaque cursor that says where the next page starts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most items in one page.
pub const MAX_PAGE: u32 = 500;

/// Where a page starts, or a batch of the purge; the default is the beginning. Its text is opaque
/// to callers and means something only to the list that made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

/// The text was not made by a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a next_cursor of the same list, unchanged")]
pub struct InvalidCursor;

impl Cursor {
    #[must_use]
    pub fn new(position: Vec<u8>) -> Self {
        Self(position)
    }

    /// # Errors
    /// [`InvalidCursor`] when the text is not base64url without padding.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        URL_SAFE_NO_PAD.decode(text).map(Self).map_err(|_| InvalidCursor)
    }

    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    #[must_use]
    pub fn position(&self) -> &[u8] {
        &self.0
    }
}

/// Which page of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to [`MAX_PAGE`].
    pub limit: u32,
    pub after: Option<Cursor>,
}

/// One page of a list; `next` is `None` at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Cursor>,
}
