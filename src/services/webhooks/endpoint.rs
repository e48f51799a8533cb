//! One receiver: what it is still to be sent, and one attempt after the other. Nothing here waits for
//! another receiver, or holds a connection of the database.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::mpsc::UnboundedSender;
use url::Url;

use crate::clock::Clock;
use crate::domain::{MAX_RETRY_AFTER_SECONDS, Timestamp, WebhookKey, retry_after};
use crate::resolvers::{Sender, Sent};
use crate::storage::{AttemptOutcome, Attempted, DueDelivery};

const GONE: u16 = 410;

/// An event that is due, with what is sent.
pub(super) struct Taken {
    pub(super) due: DueDelivery,
    pub(super) body: Vec<u8>,
    /// Later, another instance may have it.
    pub(super) until: Instant,
}

/// How an attempt went.
pub(super) struct Done {
    pub(super) attempted: Attempted,
    /// The receiver wants nothing more.
    pub(super) gone: bool,
}

/// A receiver. Its workers share what it is to be sent.
pub(super) struct Endpoint {
    url: Url,
    key: WebhookKey,
    queue: Mutex<VecDeque<Taken>>,
    workers: AtomicUsize,
    /// Its last attempt failed: one attempt at a time is enough to see whether it is back.
    failing: AtomicBool,
    /// Nothing more is to be sent.
    closed: AtomicBool,
}

/// What attempts are made with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) sender: Sender,
    pub(super) clock: Clock,
    pub(super) done: UnboundedSender<Done>,
}

impl Endpoint {
    pub(super) fn new(url: Url, key: WebhookKey) -> Self {
        Self {
            url,
            key,
            queue: Mutex::default(),
            workers: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, taken: Taken) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(taken);
    }

    /// Its workers end with the attempts that they are at.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Begins a worker, which makes attempts until nothing is left.
    pub(super) fn work(self: &Arc<Self>, tools: Tools) -> impl Future<Output = ()> + use<> {
        let working = Working::begin(self);
        async move {
            let endpoint = &working.0;
            while let Some(taken) = endpoint.next() {
                // What is late is taken again, by this instance or another one.
                if Instant::now() >= taken.until {
                    continue;
                }
                let done = endpoint.attempt(taken, &tools).await;
                let failed = done.attempted.outcome != AttemptOutcome::Delivered;
                endpoint.failing.store(failed, Ordering::Relaxed);
                // The listener is gone only when the service stops.
                let _ = tools.done.send(done);
                if failed && endpoint.workers() > 1 {
                    return;
                }
            }
        }
    }

    fn next(&self) -> Option<Taken> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn attempt(&self, Taken { due, body, .. }: Taken, tools: &Tools) -> Done {
        let now = tools.clock.now();
        let Some(headers) = self.headers(&due, now, &body) else {
            return Done::failed(due, None, "cannot be sent the headers".to_owned(), None);
        };
        match tools.sender.post(&self.url, headers, body).await {
            Ok(Sent { status: status @ 200..300, .. }) => Done::delivered(due, status),
            Ok(Sent { status, retry_after }) => {
                let asked = retry_after.and_then(|text| wait_asked(&text, now));
                let why = match status {
                    300..400 => format!("redirects ({status}): that is not followed"),
                    _ => format!("answers {status}"),
                };
                Done::failed(due, Some(status), why, asked)
            }
            Err(unsent) => Done::failed(due, None, unsent.to_string(), None),
        }
    }

    fn headers(&self, due: &DueDelivery, now: Timestamp, body: &[u8]) -> Option<HeaderMap> {
        let (id, timestamp) = (due.event, now.timestamp());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", id.to_string()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", self.key.sign(id, timestamp, body)),
        ] {
            headers.insert(name, value.parse().ok()?);
        }
        Some(headers)
    }
}

impl Done {
    fn delivered(due: DueDelivery, status: u16) -> Self {
        let outcome = AttemptOutcome::Delivered;
        let attempted = Attempted { due, outcome, status: Some(status), error: None };
        Self { attempted, gone: false }
    }

    /// The next attempt is due by the schedule, or later if the receiver asked for that.
    fn failed(due: DueDelivery, status: Option<u16>, why: String, asked: Option<Duration>) -> Self {
        let attempts = due.attempts.saturating_add(1);
        let again = retry_after(attempts, asked, random());
        let outcome = again.map_or(AttemptOutcome::Dead, AttemptOutcome::Again);
        let attempted = Attempted { due, outcome, status, error: Some(why) };
        Self { attempted, gone: status == Some(GONE) }
    }
}

/// One worker of an endpoint, until it is dropped.
struct Working(Arc<Endpoint>);

impl Working {
    fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.workers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `Retry-After` asks for: seconds, or a time (RFC 9110, section 10.2.3).
fn wait_asked(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER_SECONDS)));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    (at.to_utc() - now).to_std().ok()
}

/// 0 to 1. Without random bytes, what failed together comes together again, and that is all.
fn random() -> f64 {
    let mut random = [0_u8; 4];
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            // Gone by.
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(wait_asked(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }
}
