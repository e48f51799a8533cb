//! A row that cannot be read spoils no list: the list leaves it out, and the log names it.

use std::fmt::Display;

use diesel::result::QueryResult;

/// `what` the row holds, and which it is.
pub(super) fn readable<T>(read: QueryResult<T>, what: &'static str, id: impl Display) -> Option<T> {
    read.inspect_err(|error| {
        tracing::error!(what, %id, %error, "a stored row cannot be read and is left out");
    })
    .ok()
}
