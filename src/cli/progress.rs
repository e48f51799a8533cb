//! The line that shows on a terminal how far a long command has come.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use crate::telemetry;

/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// The line with the progress, on a terminal only.
pub(super) struct Shown {
    terminal: bool,
    began: Instant,
    last: Instant,
    /// How many rows there will be, if that is known.
    total: Option<u64>,
}

impl Shown {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { terminal: io::stderr().is_terminal(), began: now, last: now, total: None }
    }

    /// Knows the end, and so what is left.
    pub(super) fn of(total: u64) -> Self {
        Self { total: Some(total), ..Self::new() }
    }

    pub(super) fn update(&mut self, table: &str, rows: u64) {
        if self.terminal && self.last.elapsed() >= SHOWN_EVERY {
            self.last = Instant::now();
            let progress = progress(rows, self.total, self.began.elapsed());
            telemetry::tell(&format!("\r\x1b[K{progress}, now {table}"));
        }
    }
}

/// How far it has come, how fast, and how long the rest will take.
fn progress(rows: u64, total: Option<u64>, took: Duration) -> String {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = rows.saturating_mul(1000) / milliseconds;
    match total {
        Some(total) if rate > 0 => {
            let left = total.saturating_sub(rows) / rate;
            format!("{rows} of {total} rows, {rate} rows/s, about {left} s left")
        }
        Some(total) => format!("{rows} of {total} rows"),
        None => format!("{rows} rows, {rate} rows/s"),
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.terminal {
            telemetry::tell("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_the_rate_and_the_rest() {
        let of = |rows, total, seconds| progress(rows, total, Duration::from_secs(seconds));
        assert_eq!(of(500, None, 2), "500 rows, 250 rows/s");
        assert_eq!(of(500, Some(1500), 2), "500 of 1500 rows, 250 rows/s, about 4 s left");
        assert_eq!(of(0, Some(1500), 0), "0 of 1500 rows");
    }
}
