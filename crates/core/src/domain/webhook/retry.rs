//! When an event is sent again that a receiver did not take.

use std::time::Duration;

/// How long after an attempt that failed the next one is due. The first attempt is made at once.
const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// So many attempts are made.
pub const MAX_ATTEMPTS: u32 = 10;
/// No receiver puts an attempt off for longer.
pub const MAX_RETRY_AFTER_SECONDS: u64 = 86_400;

/// How long after the attempt that was the `attempts`th the next one is due; `None` when there is none.
/// Up to a tenth is added, by `jitter` (0 to 1), so that what failed together does not come together
/// again. `asked` is the receiver's `Retry-After`, for which the wait is at least as long.
#[must_use]
pub fn retry_after(attempts: u32, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
    let place = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let wait = *WAITS.get(place)?;
    let wait = wait + wait.mul_f64(jitter.clamp(0.0, 1.0) / 10.0);
    let most = Duration::from_secs(MAX_RETRY_AFTER_SECONDS);
    Some(asked.map_or(wait, |asked| wait.max(asked.min(most))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_are_made_and_each_waits_longer() {
        assert_eq!(WAITS.len() + 1, usize::try_from(MAX_ATTEMPTS).unwrap());
        assert!(WAITS.is_sorted());
        for (attempts, wait) in (1..).zip(WAITS) {
            assert_eq!(retry_after(attempts, None, 0.0), Some(wait));
            let most = wait + wait / 10;
            assert_eq!(retry_after(attempts, None, 1.0).unwrap().as_secs(), most.as_secs());
        }
        assert_eq!(retry_after(MAX_ATTEMPTS, None, 0.0), None);
        assert_eq!(retry_after(0, None, 0.0), None);
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_wait_and_for_no_shorter_and_no_endless_one() {
        let asked = |seconds| retry_after(1, Some(Duration::from_secs(seconds)), 0.0).unwrap();
        assert_eq!(asked(1), Duration::from_secs(5));
        assert_eq!(asked(60), Duration::from_mins(1));
        assert_eq!(asked(u64::MAX), Duration::from_hours(24));
        // Nothing is put off beyond the last attempt.
        assert_eq!(retry_after(MAX_ATTEMPTS, Some(Duration::from_secs(1)), 0.0), None);
    }
}
