//! Logs go to standard error: as text on a terminal, as JSON otherwise. A line has ids, but never
//! secrets. Logging cannot fail or delay the work that it reports.

mod admit;
mod line;
mod output;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::{self, MakeWriter, format};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use self::admit::Admit;
use self::line::{Human, Json};
use self::output::Output;
use crate::config::{Log, LogFormat};
use crate::metrics::{LogLinesDropped, Metrics};

/// How long a process waits at its end for its last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Standard error, once logging has started.
static STDERR: OnceLock<Output> = OnceLock::new();

/// Starts logging for the whole process. Lines that get lost are counted in `metrics`.
///
/// # Errors
/// When `RUST_LOG` is not a filter, or logging was started before.
pub fn init(config: &Log, filter: &str, metrics: &Metrics) -> Result<(), String> {
    let filter = match env::var("RUST_LOG") {
        Ok(text) => {
            EnvFilter::try_new(&text).map_err(|error| format!("RUST_LOG={text}: {error}"))?
        }
        Err(_) => EnvFilter::try_new(filter).map_err(|error| format!("{filter}: {error}"))?,
    };
    let dropped = metrics.log_lines_dropped.clone();
    let stderr = start_stderr(dropped).map_err(|error| format!("standard error: {error}"))?;
    let on_terminal = io::stderr().is_terminal();
    let for_people = match config.format {
        LogFormat::Auto => on_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // Errors of logging itself would be printed, and that panics when printing fails.
    let layer = fmt::layer::<Registry>().with_writer(stderr).log_internal_errors(false);
    let lines = if for_people {
        let colours = has_colours(on_terminal, env::var_os("NO_COLOR").as_deref());
        layer.event_format(Human(format::format().with_ansi(colours))).boxed()
    } else {
        layer.event_format(Json).boxed()
    };
    let admit = Admit::new(filter, config.stranger_lines_per_second, metrics);
    tracing_subscriber::registry()
        .with(lines)
        .with(admit)
        .try_init()
        .map_err(|error| error.to_string())?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// As <https://no-color.org> asks.
fn has_colours(on_terminal: bool, no_color: Option<&OsStr>) -> bool {
    on_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Writes a text for the person at the terminal to standard error, after all earlier log lines. If
/// it cannot be written, that is ignored.
pub fn tell(text: &str) {
    match STDERR.get() {
        Some(stderr) => {
            stderr.line(text.as_bytes());
            stderr.flush(PATIENCE);
        }
        None => {
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Waits until the log is written. Gives up on a reader that does not read.
pub fn flush() {
    if let Some(stderr) = STDERR.get() {
        stderr.flush(PATIENCE);
    }
}

/// Duplicates the descriptor. Otherwise the writer could hold the standard library's lock on
/// standard error while it waits for a reader.
fn start_stderr(dropped: LogLinesDropped) -> io::Result<&'static Output> {
    if let Some(started) = STDERR.get() {
        return Ok(started);
    }
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let output = Output::start(stderr, dropped)?;
    Ok(STDERR.get_or_init(|| output))
}

impl<'a> MakeWriter<'a> for &'static Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self)
    }
}

/// Takes one whole line at a time, as `tracing_subscriber` writes them.
struct Line(&'static Output);

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs a panic as a line. The standard library's hook could block on standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread::current().name(),
        location = panic.location().map(tracing::field::display),
        cause = panic.payload_as_str(),
        backtrace = captured.then(|| tracing::field::display(&backtrace)),
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_a_terminal_that_wants_them() {
        for (on_terminal, no_color, colours) in [
            (true, None, true),
            (true, Some(""), true),
            (true, Some("1"), false),
            (false, None, false),
            (false, Some(""), false),
        ] {
            let no_color = no_color.map(OsStr::new);
            assert_eq!(has_colours(on_terminal, no_color), colours, "{on_terminal} {no_color:?}");
        }
    }
}
