//! The configuration of a command that prints a result.

use super::failure::Failure;
use crate::config::{Config, Need, Sources};
use crate::metrics::Metrics;
use crate::telemetry;

/// Loads the configuration for a command that prints a result. Only warnings are logged, unless
/// `RUST_LOG` asks for more.
pub(super) fn quiet(sources: &Sources, need: Need) -> Result<Config, Failure> {
    let config = sources.load(need)?.config;
    telemetry::init(&config.log, "warn", &Metrics::new()?).map_err(Failure::Usage)?;
    Ok(config)
}
