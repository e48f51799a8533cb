//! A circuit breaker for each host: a host that does not answer is not asked for a while.
//!
//! A host has two breakers, because many agents may share it. Strangers can name DIDs that it does
//! not serve, and failures for new DIDs must not stop the readings of known DIDs.

use std::time::Duration;

use moka::future::Cache;
use recloser::{AsyncRecloser, Recloser};

/// Strangers choose the hosts, so the hosts that were asked least are forgotten.
const MAX_HOSTS: u64 = 10_000;
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

pub(super) struct Breakers {
    /// How long a host is not asked.
    wait: Duration,
    hosts: Cache<(bool, Box<str>), AsyncRecloser>,
}

impl Breakers {
    /// After this many failures in a row, a host is not asked for a while; after one more, if it
    /// has not been asked that often yet.
    pub(super) const FAILURES: usize = 5;

    pub(super) fn new(wait: Duration) -> Self {
        let hosts = Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(FORGOTTEN_AFTER).build();
        Self { wait, hosts }
    }

    /// The breaker of this host, by its name and port, for known DIDs or for new ones.
    pub(super) async fn of(&self, host: &str, known: bool) -> AsyncRecloser {
        let breaker = async {
            let breaker = Recloser::custom()
                .closed_len(Self::FAILURES)
                .error_rate_closed(1.0)
                .half_open_len(1)
                .open_wait(self.wait);
            breaker.build().into()
        };
        self.hosts.get_with((known, host.into()), breaker).await
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    type Called = Result<(), recloser::Error<()>>;

    impl Breakers {
        async fn call(&self, host: &str, result: Result<(), ()>) -> Called {
            self.of(host, false).await.call(ready(result)).await
        }

        async fn fail(&self, host: &str) {
            for _ in 0..=Self::FAILURES {
                assert!(matches!(self.call(host, Err(())).await, Err(recloser::Error::Inner(()))));
            }
        }
    }

    fn is_rejected(called: &Called) -> bool {
        matches!(called, Err(recloser::Error::Rejected))
    }

    #[tokio::test]
    async fn a_host_that_fails_is_left_alone_and_no_other() {
        let breakers = Breakers::new(Duration::from_hours(1));
        for _ in 0..10 {
            let failed = breakers.call("a.example:443", Err(())).await;
            assert!(matches!(failed, Err(recloser::Error::Inner(()))));
            breakers.call("a.example:443", Ok(())).await.unwrap();
        }
        for _ in 0..Breakers::FAILURES {
            let failed = breakers.call("a.example:443", Err(())).await;
            assert!(matches!(failed, Err(recloser::Error::Inner(()))));
        }
        assert!(is_rejected(&breakers.call("a.example:443", Ok(())).await));
        breakers.call("a.example:444", Ok(())).await.unwrap();
        breakers.call("b.example:443", Ok(())).await.unwrap();
        breakers.of("a.example:443", true).await.call(ready(Ok::<_, ()>(()))).await.unwrap();
    }

    #[tokio::test]
    async fn a_host_that_answers_again_is_asked_again() {
        let breakers = Breakers::new(Duration::from_millis(50));
        breakers.fail("a.example:443").await;
        while is_rejected(&breakers.call("a.example:443", Ok(())).await) {
            tokio::task::yield_now().await;
        }
        breakers.call("a.example:443", Ok(())).await.unwrap();
        // It is as before: one failure is not enough.
        let failed = breakers.call("a.example:443", Err(())).await;
        assert!(matches!(failed, Err(recloser::Error::Inner(()))));
        breakers.call("a.example:443", Ok(())).await.unwrap();
    }
}
