//! `[log]`: what is logged, and in which format.

use tracing_subscriber::EnvFilter;

use super::reader::{Given, Reader, Show};

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// Used when `RUST_LOG` is not set.
    pub filter: String,
    /// Lines about requests without a valid credential, and lines that repeat one warning or error.
    pub stranger_lines_per_second: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

impl LogFormat {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl Log {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            format: read_format(reader),
            filter: read_filter(reader),
            stranger_lines_per_second: reader.number(
                "log.stranger_lines_per_second",
                100,
                1..=1_000_000,
            ),
        }
    }
}

fn read_format(reader: &mut Reader) -> LogFormat {
    let parse = |given: &Given| {
        [LogFormat::Auto, LogFormat::Human, LogFormat::Json]
            .into_iter()
            .find(|format| given.text() == Some(format.as_str()))
            .ok_or_else(|| "must be auto, human or json".to_owned())
    };
    let shown = |format: &LogFormat| format.as_str().into();
    reader.value("log.format", Show::Plain, LogFormat::Auto, parse, shown)
}

/// At `info`, actix logs every thread that it starts.
const DEFAULT_FILTER: &str = "info,actix_server=warn";

fn read_filter(reader: &mut Reader) -> String {
    let parse = |given: &Given| match given.text() {
        Some(text) if !text.is_empty() && EnvFilter::try_new(text).is_ok() => Ok(text.to_owned()),
        _ => Err("must be a filter such as info or info,onceguard=debug".to_owned()),
    };
    let shown = |filter: &String| filter.as_str().into();
    reader.value("log.filter", Show::Plain, DEFAULT_FILTER.to_owned(), parse, shown)
}
