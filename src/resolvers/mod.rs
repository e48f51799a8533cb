//! Where DIDs live. Each resolver turns the DIDs of its methods into keys.

pub mod did_key;
