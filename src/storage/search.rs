//! Search: DIDs and sessions by their words. The index is made from what is stored, and is in no
//! archive.

use super::{Result, Store, on};
use crate::domain::{Cursor, FoundPlace, PageFiller, PageRequest, Search, Searched};

/// Where something that was found stands, and how many bytes it adds to a page.
pub(super) struct Place {
    pub(super) place: FoundPlace,
    pub(super) bytes: usize,
}

/// Takes the places that a page has room for, of those that were read for it and one more.
pub(super) fn page_of(mut places: Vec<Place>, limit: u32) -> (Vec<FoundPlace>, Option<Cursor>) {
    let mut room = PageFiller::new(limit);
    let fit = places.iter().take_while(|place| room.takes(place.bytes)).count();
    let more = places.len() > fit;
    places.truncate(fit);
    let next = places.last().filter(|_| more).map(|last| last.place.cursor());
    (places.into_iter().map(|place| place.place).collect(), next)
}

impl Store {
    /// What has all of these words, the newest first.
    pub async fn search(&self, search: &Search, page: &PageRequest) -> Result<Searched> {
        on!(self, store => store.search(search, page).await)
    }

    /// Adds the words of up to `limit` DIDs and as many sessions that were stored without them.
    /// Returns how many that were.
    pub async fn index_words(&self, limit: u32) -> Result<u64> {
        on!(self, store => store.index_words(limit).await)
    }
}
