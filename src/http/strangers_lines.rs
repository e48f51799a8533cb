//! Bounds the lines of the access log about requests without a valid credential.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::domain::Peer;

/// Of the lines that strangers may have, one peer may have this part.
const SHARE: u32 = 10;

/// Bounds the lines about requests without a valid credential, in all and per peer.
pub struct StrangersLines {
    per_second: u32,
    per_peer: u32,
    dropped: IntCounter,
    second: Mutex<Second>,
}

/// The lines since then.
struct Second {
    began: Instant,
    lines: u32,
    /// Every peer has at least one line, so that there are no more peers than lines.
    peers: HashMap<Peer, u32>,
}

impl StrangersLines {
    #[must_use]
    pub fn new(per_second: u32, dropped: IntCounter) -> Self {
        let second = Second { began: Instant::now(), lines: 0, peers: HashMap::new() };
        let per_peer = (per_second / SHARE).max(1);
        Self { per_second, per_peer, dropped, second: Mutex::new(second) }
    }

    pub(super) fn admit(&self, peer: Peer, now: Instant) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            second.began = now;
            second.lines = 0;
            second.peers.clear();
        }
        let own = second.peers.get(&peer).copied().unwrap_or_default();
        let admitted = second.lines < self.per_second && own < self.per_peer;
        if admitted {
            second.lines += 1;
            second.peers.insert(peer, own + 1);
        } else {
            self.dropped.inc();
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::metrics::Metrics;

    fn peer(number: u8) -> Peer {
        Peer::of_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
    }

    #[test]
    fn strangers_have_so_many_lines_a_second_and_one_peer_a_tenth() {
        let dropped = Metrics::new().unwrap().log_lines_dropped.strangers;
        let lines = StrangersLines::new(50, dropped.clone());
        let start = Instant::now();
        let admitted = |peers: std::ops::Range<u8>, now| {
            let asks = peers.flat_map(|number| [peer(number); 20]);
            asks.filter(|peer| lines.admit(*peer, now)).count()
        };
        assert_eq!(admitted(0..1, start), 5);
        assert_eq!(admitted(0..200, start), 45);
        assert_eq!(dropped.get(), 15 + 4000 - 45);
        assert!(lines.second.lock().unwrap().peers.len() <= 50);
        assert_eq!(admitted(0..200, start + Duration::from_millis(900)), 0);
        assert_eq!(admitted(0..200, start + Duration::from_secs(1)), 50);
    }

    #[test]
    fn a_peer_always_has_a_line() {
        let lines = StrangersLines::new(3, Metrics::new().unwrap().log_lines_dropped.strangers);
        let now = Instant::now();
        let admitted = [0, 0, 1, 1, 2, 3].map(|number| lines.admit(peer(number), now));
        assert_eq!(admitted, [true, false, true, false, true, false]);
    }
}
