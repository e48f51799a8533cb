//! Sessions: how one is shown, and what its calls have in common. A session's key is in none of
//! the answers here but in that of `key`, and never in a log.

mod change;
mod open;
mod read;
mod view;

pub(super) use change::{change, end, end_all, touch};
pub(super) use open::open;
pub(super) use read::{key, list, read};
pub(super) use view::View;

// What the OpenAPI document is made from.
pub(super) use change::{__path_change, __path_end, __path_end_all, __path_touch};
pub(super) use open::__path_open;
pub(super) use read::{__path_key, __path_list, __path_read};
