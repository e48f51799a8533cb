//! `[webhooks]`: how events are sent to receivers, and how long that is remembered.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;

/// `[webhooks]`.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Whether receivers may have private addresses, and URLs with plain `http`.
    pub allow_private_addresses: bool,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// The most attempts of this instance at the same time, in all and at one receiver.
    pub max_in_flight: u32,
    pub max_in_flight_per_endpoint: u32,
    pub delivered_retention: Duration,
    /// Also of events that a webhook has not been given yet.
    pub undelivered_retention: Duration,
}

impl Webhooks {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            allow_private_addresses: reader.boolean("webhooks.allow_private_addresses", false),
            ca_file: reader.optional_path("webhooks.ca_file"),
            timeout: reader.seconds("webhooks.timeout_seconds", 15, 1..=60),
            max_in_flight: reader.number("webhooks.max_in_flight", 128, 1..=4096),
            max_in_flight_per_endpoint: reader.number(
                "webhooks.max_in_flight_per_endpoint",
                16,
                1..=256,
            ),
            delivered_retention: reader.days("webhooks.delivered_retention_days", 30, 1..=3650),
            undelivered_retention: reader.days("webhooks.undelivered_retention_days", 90, 4..=3650),
        }
    }
}
