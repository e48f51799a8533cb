//! Decides which events become log lines: those that the filter asks for, with two exceptions. One
//! warning or error has a bound per second, because strangers can provoke it; and what actix logs
//! about connections that sent no HTTP request is left out. Every line left out is counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};

use crate::metrics::Metrics;

/// The module in which actix serves a connection. It logs an error or a warning when the connection
/// broke or sent no HTTP request, and has no other way to report that.
const CONNECTIONS: [&str; 2] = ["actix_http::h1::dispatcher", "actix_http::h2::dispatcher"];

pub(super) struct Admit {
    filter: EnvFilter,
    broken_connections: IntCounter,
    repeats: Repeats,
}

/// Bounds how often the same warning or error is logged.
struct Repeats {
    per_second: u32,
    dropped: IntCounter,
    /// One entry for each place in the code that logs.
    places: Mutex<HashMap<Identifier, Second>>,
}

/// How often it was logged since then.
struct Second {
    began: Instant,
    lines: u32,
}

impl Admit {
    pub(super) fn new(filter: EnvFilter, per_second: u32, metrics: &Metrics) -> Self {
        Self {
            filter,
            broken_connections: metrics.http_connections_broken.clone(),
            repeats: Repeats {
                per_second,
                dropped: metrics.log_lines_dropped.repeated.clone(),
                places: Mutex::default(),
            },
        }
    }
}

impl Repeats {
    fn admits(&self, place: Identifier) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let second = places.entry(place).or_insert(Second { began: now, lines: 0 });
        if now.duration_since(second.began) >= Duration::from_secs(1) {
            *second = Second { began: now, lines: 0 };
        }
        let admitted = second.lines < self.per_second;
        if admitted {
            second.lines += 1;
        } else {
            self.dropped.inc();
        }
        admitted
    }
}

fn is_broken_connection(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN && CONNECTIONS.contains(&metadata.target())
}

/// In `tracing_subscriber`, the filter of a layer must not refuse single events: it would then
/// refuse later ones, too. So this is a layer of its own, which filters for all.
impl<S: Subscriber> Layer<S> for Admit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        if is_broken_connection(metadata) {
            self.broken_connections.inc();
            return false;
        }
        self.repeats.admits(metadata.callsite())
    }

    /// Broken connections are counted even when the filter leaves their lines out.
    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        is_broken_connection(metadata) || Layer::enabled(&self.filter, metadata, context)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_broken_connection(metadata) {
            Interest::always()
        } else {
            Layer::<S>::register_callsite(&self.filter, metadata)
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = Layer::<S>::max_level_hint(&self.filter)?;
        Some(hint.max(LevelFilter::WARN))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Layer::on_new_span(&self.filter, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Layer::on_record(&self.filter, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Layer::on_enter(&self.filter, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Layer::on_exit(&self.filter, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Layer::on_close(&self.filter, id, context);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Does this with a log that admits 3 lines a second of a kind, and returns its metrics and how
    /// many lines it has.
    fn logged(work: impl FnOnce()) -> (Metrics, usize) {
        let metrics = Metrics::new().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(Mutex::new(writer));
        let admit = Admit::new(EnvFilter::new("info"), 3, &metrics);
        let log = tracing_subscriber::registry().with(layer).with(admit);
        tracing::subscriber::with_default(log, work);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        (metrics, text.lines().count())
    }

    #[test]
    fn one_warning_that_repeats_does_not_fill_the_log() {
        let began = Instant::now();
        let (metrics, lines) = logged(|| {
            for _ in 0..20 {
                tracing::warn!("this");
                tracing::error!("that");
                tracing::info!("all of them");
                tracing::debug!("none of them");
            }
        });
        // It starts anew each second, should the machine be so slow.
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
        let warnings = lines - 20;
        assert!((6..=6 * seconds).contains(&warnings), "{warnings}");
        assert_eq!(metrics.log_lines_dropped.repeated.get(), 40 - warnings as u64);
    }

    #[test]
    fn a_broken_connection_is_counted_and_not_logged() {
        let (metrics, lines) = logged(|| {
            tracing::error!(target: "actix_http::h1::dispatcher", "stream error: …");
            tracing::warn!(target: "actix_http::h2::dispatcher", "Send data error: …");
            tracing::error!(target: "actix_http::service", "readiness error");
        });
        assert_eq!((metrics.http_connections_broken.get(), lines), (2, 1));
    }
}
