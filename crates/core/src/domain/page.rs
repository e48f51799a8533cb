//! Lists in pages: a limit, and an opaque cursor that says where the next page starts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most items in one page.
pub const MAX_PAGE: u32 = 500;
/// About the most bytes of one page's items, unless its first item has more: what is large is
/// listed in smaller pages.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;

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

/// Fills a page: takes item by item until it has enough.
#[derive(Debug)]
pub struct PageFiller {
    room: usize,
    bytes: usize,
    taken: usize,
}

impl PageFiller {
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { room: usize::try_from(limit).unwrap_or(usize::MAX), bytes: 0, taken: 0 }
    }

    /// Whether the next item, which has so many bytes, is one of the page; else the page is full.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let total = self.bytes.saturating_add(bytes);
        let fits = self.taken < self.room && (self.taken == 0 || total <= MAX_PAGE_BYTES);
        if fits {
            (self.bytes, self.taken) = (total, self.taken + 1);
        }
        fits
    }
}

/// One page of a list; `next` is `None` at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_full_by_items_or_by_bytes() {
        let mut by_items = PageFiller::new(2);
        assert_eq!([1, 1, 1].map(|bytes| by_items.takes(bytes)), [true, true, false]);
        let mut by_bytes = PageFiller::new(500);
        assert!(by_bytes.takes(MAX_PAGE_BYTES - 1) && by_bytes.takes(1));
        assert!(!by_bytes.takes(1));
        // Else a list could not go on.
        let mut large = PageFiller::new(500);
        assert!(large.takes(MAX_PAGE_BYTES * 2));
        assert!(!large.takes(0));
    }
}
