//! Where logs go: standard error, human on a terminal and JSON otherwise. What is logged
//! carries ids, never secrets.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

/// Starts logging for the whole process.
///
/// # Errors
/// When `RUST_LOG` is not a filter, or logging was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => {
            EnvFilter::try_new(&text).map_err(|error| format!("RUST_LOG={text}: {error}"))?
        }
        Err(_) => EnvFilter::try_new(filter).map_err(|error| format!("{filter}: {error}"))?,
    };
    let on_terminal = std::io::stderr().is_terminal();
    // The default timer writes RFC 3339 in UTC.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let human = match format {
        LogFormat::Auto => on_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let started = if human {
        logs.with_ansi(on_terminal).finish().try_init()
    } else {
        logs.json().flatten_event(true).with_span_list(false).finish().try_init()
    };
    started.map_err(|error| error.to_string())
}
