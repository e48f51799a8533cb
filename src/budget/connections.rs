//! The connections of a listener. How many there may be, and which one is closed when there is one
//! too many, the [registry](super::registry) says.

use std::sync::Arc;

use super::place::Place;
use super::registry::Registry;
use crate::config::Limits;
use crate::domain::Peer;
use crate::metrics::Metrics;

/// The connections of a listener. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<Registry>);

impl Connections {
    #[must_use]
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Registry::new(limits, metrics)))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(limits: Limits) -> Self {
        Self::new(limits, Arc::new(Metrics::new().unwrap()))
    }

    /// A place for a new connection. A trusted proxy's connection has no peer, because it carries
    /// many. `None` when there is no place, and no stranger's connection to close instead.
    #[must_use]
    pub fn open(&self, peer: Option<Peer>) -> Option<Place> {
        self.0.begin().then(|| Place::new(Arc::clone(&self.0), peer))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::budget::Shown;

    fn connections() -> Connections {
        let limits = Limits {
            connections: 6,
            stranger_connections: 4,
            stranger_connections_per_peer: 2,
            handshakes: 2,
            handshakes_per_peer: 1,
            ..Limits::for_tests()
        };
        Connections::for_tests(limits)
    }

    fn peer(last: u8) -> Peer {
        Peer::of_address([192, 0, 2, last].into())
    }

    /// A connection over which nothing came so far.
    fn silent(connections: &Connections, last: u8) -> Rc<Place> {
        let place = connections.open(Some(peer(last))).unwrap();
        place.count();
        Rc::new(place)
    }

    /// Which of them were closed.
    fn closed<const N: usize>(places: [&Rc<Place>; N]) -> [bool; N] {
        places.map(|place| place.is_closed())
    }

    #[test]
    fn the_one_that_is_longest_without_a_credential_goes() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let (first, second) = (open(1), open(1));
        let third = open(1);
        assert_eq!(closed([&first, &second, &third]), [true, false, false], "its peer's oldest");
        second.admit();
        let fourth = open(1);
        assert_eq!(closed([&second, &third, &fourth]), [false; 3], "a holder's does not count");
        drop(third.serve());
        let fifth = open(1);
        assert_eq!(closed([&third, &fourth, &fifth]), [false, true, false], "third has signed");
        let serving = fifth.serve();
        let (sixth, seventh) = (open(1), open(1));
        drop(serving);
        assert_eq!(closed([&third, &sixth, &seventh]), [false, true, true], "others have not");
        assert!(!fifth.is_closed());
        drop((first, second, third, fourth, fifth, sixth, seventh));
        assert_eq!(connections.0.counts(), (0, [0, 0]));
    }

    #[test]
    fn one_that_was_refused_goes_before_all_others() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let (first, second) = (open(1), open(1));
        second.begin_request();
        assert!(second.end_request(true), "a refused stranger's connection closes");
        let third = open(1);
        assert_eq!(closed([&first, &second, &third]), [false, true, false]);
    }

    #[test]
    fn silence_goes_before_a_request_that_is_being_checked() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let asking = open(1);
        asking.begin_request();
        let (second, third) = (open(1), open(1));
        assert_eq!(closed([&asking, &second, &third]), [false, true, false]);
        // Once it was answered without a credential, it is as silent as the others.
        assert!(!asking.end_request(false));
        let (fourth, fifth) = (open(1), open(1));
        assert_eq!(closed([&asking, &third, &fourth, &fifth]), [true, true, false, false]);
    }

    #[test]
    fn a_connection_is_silent_once_none_of_its_requests_is_being_checked() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let asking = open(1);
        asking.begin_request();
        asking.begin_request();
        assert!(!asking.end_request(false));
        let (second, third) = (open(1), open(1));
        assert_eq!(closed([&asking, &second, &third]), [false, true, false]);
        assert!(!asking.end_request(false));
        let (fourth, fifth) = (open(1), open(1));
        assert_eq!(closed([&asking, &third, &fourth, &fifth]), [true, true, false, false]);
    }

    #[test]
    fn what_was_not_read_yet_is_no_silence() {
        let connections = connections();
        let unread = Rc::new(connections.open(Some(peer(1))).unwrap());
        let others = [(); 4].map(|()| silent(&connections, 1));
        assert!(!unread.is_closed() && unread.is_uncounted());
        unread.count();
        assert!(!unread.is_uncounted());
        let last = [(); 2].map(|()| silent(&connections, 1));
        assert!(unread.is_closed() && others.iter().all(|other| other.is_closed()));
        assert!(last.iter().all(|last| !last.is_closed()));
    }

    #[tokio::test]
    async fn a_request_that_came_just_before_the_end_spares_its_connection() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let (asking, silent, third) = (open(1), open(1), open(1));
        let before = asking.closed().await;
        asking.begin_request();
        assert!(asking.spare(before));
        assert_eq!(closed([&asking, &silent, &third]), [false, true, false], "another goes");
        let before = silent.closed().await;
        assert!(!silent.spare(before), "nothing came");
        // It can be closed again.
        assert!(!asking.end_request(false));
        let (fourth, fifth) = (open(1), open(1));
        assert_eq!(closed([&asking, &third, &fourth, &fifth]), [true, true, false, false]);
        let before = asking.closed().await;
        asking.begin_request();
        asking.admit();
        assert!(asking.spare(before) && !asking.is_closed(), "a token came");
        let before = third.closed().await;
        third.begin_request();
        assert!(third.end_request(true) && !third.spare(before), "it was refused");
    }

    #[tokio::test]
    async fn a_token_that_was_found_good_just_before_the_end_spares_its_connection() {
        let connections = connections();
        let open = |last| {
            let place = silent(&connections, last);
            place.begin_request();
            place
        };
        let (good, unknown, third, fourth) = (open(1), open(1), open(1), open(1));
        assert_eq!(closed([&good, &unknown, &third, &fourth]), [true, true, false, false]);
        let (of_good, of_unknown) = (good.closed().await, unknown.closed().await);
        assert_eq!((of_good, of_unknown), (Shown::Request, Shown::Request));
        good.admit();
        assert!(good.spare(of_good) && !good.is_closed());
        assert!(!unknown.spare(of_unknown), "its token is not known to be good");
    }

    #[test]
    fn many_peers_share_a_bound() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let first = open(1);
        let others = [open(2), open(3), open(4)];
        assert!(!first.is_closed());
        let one_too_many = open(5);
        assert!(first.is_closed() && !one_too_many.is_closed());
        assert!(others.iter().all(|other| !other.is_closed()));
    }

    #[test]
    fn where_all_are_known_a_new_one_has_no_place() {
        let connections = connections();
        let known: Vec<_> = (0..6).map(|_| connections.open(None).unwrap()).collect();
        assert!(connections.open(Some(peer(1))).is_none());
        drop(known);
        let known: Vec<_> = (0..5).map(|_| connections.open(None).unwrap()).collect();
        let stranger = silent(&connections, 1);
        let another = connections.open(Some(peer(2)));
        assert!(stranger.is_closed() && another.is_some());
        assert!(known.iter().all(|known| !known.is_closed()));
    }

    #[test]
    fn a_handshake_that_does_not_end_goes_first() {
        let connections = connections();
        let (first, second) =
            (connections.open(Some(peer(1))).unwrap(), connections.open(Some(peer(1))).unwrap());
        let half_open = first.handshake();
        let ended = second.handshake();
        assert!(first.is_closed() && !second.is_closed());
        drop((half_open, ended));
        assert_eq!(connections.0.counts(), (2, [0, 0]));
    }
}
