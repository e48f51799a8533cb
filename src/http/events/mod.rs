//! The log of events: callers publish into it, and read it in order.

mod publish;
mod read;

pub(super) use publish::{__path_publish, publish};
pub(super) use read::{__path_read, read};
