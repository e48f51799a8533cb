//! `[events]`: what the log of events takes.

use super::reader::Reader;

/// `[events]`.
#[derive(Debug, Clone)]
pub struct Events {
    /// The most replays of one scope in a minute that become events, and of all scopes together.
    pub replays_per_scope_per_minute: u32,
    pub replays_per_minute: u32,
}

impl Events {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            replays_per_scope_per_minute: reader.number(
                "events.replays_per_scope_per_minute",
                10,
                0..=10_000,
            ),
            replays_per_minute: reader.number("events.replays_per_minute", 600, 0..=100_000),
        }
    }
}
