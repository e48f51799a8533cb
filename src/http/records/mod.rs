//! Sealed records: what clients encrypted. Bodies become domain values here; nothing here can read
//! what is in them.

mod batch;
mod feed;
mod one;
mod owner;
mod read;
mod view;

pub(super) use batch::{__path_batch, batch};
pub(super) use feed::{__path_feed, feed};
pub(super) use one::{__path_delete, __path_put, __path_read, before_put, delete, put, read};
pub(super) use owner::{
    __path_delete_all, __path_delete_inactive, __path_inactive, __path_usage, delete_all,
    delete_inactive, inactive, usage,
};
