//! How many DIDs a resolver reads at the same time, and for whom.
//!
//! Strangers choose which DIDs are read, because a message may name any DID, and its signature is
//! checked only after the DID was read. So no host, address or peer holds more than its part of the
//! places, and new DIDs never hold the part that is kept for known ones. When there is no place, a
//! DID is refused at once. Nothing waits here, and no I/O happens.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config;
use crate::domain::Peer;
use crate::metrics::Metrics;

/// For which account a DID is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub peer: Peer,
    /// Whether something is stored about the DID, because it was in use before or is revoked. Known
    /// and new DIDs are counted apart: each kind has its own parts of hosts, peers and so on.
    pub known: bool,
}

/// Why a DID is not read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("as many DIDs are being read as may be (resolvers.places.total)")]
    Total,
    #[error("as many new DIDs are being read as may be (resolvers.places.total less known)")]
    New,
    #[error("as many DIDs of its host are being read as may be (resolvers.places.per_host)")]
    Host,
    #[error("as many DIDs of its address are being read as may be (resolvers.places.per_address)")]
    Address,
    #[error("as many DIDs of its method are being read as may be (resolvers.places.per_method)")]
    Method,
    #[error(
        "as many DIDs are being read for its peer as may be (resolvers.places.per_peer, per_token)"
    )]
    Peer,
}

impl Full {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::New => "new",
            Self::Host => "host",
            Self::Address => "address",
            Self::Method => "method",
            Self::Peer => "peer",
        }
    }
}

/// The source of a DID, as far as strangers choose it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// A host, by its name without the port. Otherwise each port would have places of its own.
    Host(&'a config::Host),
    Method(&'a str),
    /// There is only one source.
    Registry,
}

/// The places of one resolver.
pub(super) struct Places {
    resolver: &'static str,
    limits: config::Places,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    known: usize,
    new: usize,
    /// For known DIDs and for new DIDs: the places that each part holds.
    parts: HashMap<(bool, Part), usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Host(Box<str>),
    Method(Box<str>),
    Address(Peer),
    Peer(Peer),
}

/// The place of a DID that is being read. Dropping it frees the place.
pub(super) struct Place {
    places: Arc<Places>,
    known: bool,
    parts: Mutex<Vec<Part>>,
}

impl Places {
    pub(super) fn new(
        resolver: &'static str,
        limits: &config::Places,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let places = Self { resolver, limits: limits.clone(), metrics, held: Mutex::default() };
        places.show(&Held::default());
        Arc::new(places)
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub(super) fn enter(
        self: &Arc<Self>,
        account: &Account,
        of: Of<'_>,
    ) -> Result<Arc<Place>, Full> {
        let mut parts = vec![Part::Peer(account.peer)];
        match of {
            Of::Host(host) => parts.push(Part::Host(host.to_string().into())),
            Of::Method(method) => parts.push(Part::Method(method.into())),
            Of::Registry => {}
        }
        let mut held = self.held();
        self.take(&mut held, account.known, &parts).map_err(|full| self.refused(full))?;
        self.show(&held);
        drop(held);
        let places = Arc::clone(self);
        Ok(Arc::new(Place { places, known: account.known, parts: Mutex::new(parts) }))
    }

    fn take(&self, held: &mut Held, known: bool, parts: &[Part]) -> Result<(), Full> {
        if held.known + held.new >= self.limits.total {
            return Err(Full::Total);
        }
        if !known && held.new >= self.limits.total.saturating_sub(self.limits.known) {
            return Err(Full::New);
        }
        self.take_parts(held, known, parts)?;
        *held.of(known) += 1;
        Ok(())
    }

    /// Takes all of them or none.
    fn take_parts(&self, held: &mut Held, known: bool, parts: &[Part]) -> Result<(), Full> {
        for part in parts {
            let (limit, full) = self.limit(part);
            if held.parts.get(&(known, part.clone())).is_some_and(|count| *count >= limit) {
                return Err(full);
            }
        }
        for part in parts {
            *held.parts.entry((known, part.clone())).or_default() += 1;
        }
        Ok(())
    }

    const fn limit(&self, part: &Part) -> (usize, Full) {
        match part {
            Part::Host(_) => (self.limits.per_host, Full::Host),
            Part::Method(_) => (self.limits.per_method, Full::Method),
            Part::Address(_) => (self.limits.per_address, Full::Address),
            Part::Peer(Peer::Network(_)) => (self.limits.per_peer, Full::Peer),
            Part::Peer(Peer::Holder(_)) => (self.limits.per_token, Full::Peer),
        }
    }

    fn refused(&self, full: Full) -> Full {
        self.metrics.resolver_refusals.with_label_values(&[self.resolver, full.as_str()]).inc();
        full
    }

    fn show(&self, held: &Held) {
        for (dids, count) in [("known", held.known), ("new", held.new)] {
            let gauge = self.metrics.resolver_places.with_label_values(&[self.resolver, dids]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    const fn of(&mut self, known: bool) -> &mut usize {
        if known { &mut self.known } else { &mut self.new }
    }
}

impl Place {
    /// Also counts it for the addresses of the host, which are known only after its name was looked
    /// up.
    ///
    /// # Errors
    /// [`Full`] when one of them has no place left.
    pub(super) fn at(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Full> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for address in addresses {
            let part = Part::Address(Peer::of_address(address));
            if !parts.contains(&part) && !new.contains(&part) {
                new.push(part);
            }
        }
        let taken = self.places.take_parts(&mut self.places.held(), self.known, &new);
        taken.map_err(|full| self.places.refused(full))?;
        parts.append(&mut new);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parts = std::mem::take(self.parts.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut held = self.places.held();
        for part in parts {
            let key = (self.known, part);
            if let Some(count) = held.parts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    held.parts.remove(&key);
                }
            }
        }
        *held.of(self.known) -= 1;
        self.places.show(&held);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each the least that shows its limit.
    const LIMITS: config::Places = config::Places {
        total: 12,
        known: 4,
        per_host: 2,
        per_address: 3,
        per_method: 2,
        per_peer: 3,
        per_token: 5,
    };

    fn places() -> Arc<Places> {
        Places::new("web", &LIMITS, Arc::new(Metrics::new().unwrap()))
    }

    fn network(number: u8) -> Account {
        Account { peer: Peer::of_address([192, 0, 2, number].into()), known: false }
    }

    fn host(number: usize) -> config::Host {
        config::Host::Name(format!("{number}.example"))
    }

    /// How many of 100 readings find a place.
    fn placed(
        places: &Arc<Places>,
        account: impl Fn(u8) -> Account,
        host_of: impl Fn(u8) -> config::Host,
    ) -> Vec<Arc<Place>> {
        (0..100).filter_map(|n| places.enter(&account(n), Of::Host(&host_of(n))).ok()).collect()
    }

    #[test]
    fn a_host_a_peer_and_the_new_ones_have_a_part_each() {
        let of_host = placed(&places(), network, |_| host(1));
        assert_eq!(of_host.len(), LIMITS.per_host);
        let of_peer = placed(&places(), |_| network(1), |n| host(n.into()));
        assert_eq!(of_peer.len(), LIMITS.per_peer);
        let holder = Account { peer: Peer::Holder(uuid::Uuid::nil()), known: false };
        let of_token = placed(&places(), |_| holder, |n| host(n.into()));
        assert_eq!(of_token.len(), LIMITS.per_token);
        let new = placed(&places(), network, |n| host(n.into()));
        assert_eq!(new.len(), LIMITS.total - LIMITS.known);
    }

    #[test]
    fn known_dids_have_places_whatever_strangers_hold() {
        let places = places();
        let strangers = placed(&places, network, |n| host((n % 4).into()));
        assert_eq!(strangers.len(), LIMITS.total - LIMITS.known);
        assert_eq!(places.enter(&network(1), Of::Host(&host(9))).err(), Some(Full::New));
        // The same peers, and the same hosts.
        let known =
            placed(&places, |n| Account { known: true, ..network(n) }, |n| host((n % 4).into()));
        assert_eq!(known.len(), LIMITS.known);
        let late = Account { known: true, ..network(1) };
        assert_eq!(places.enter(&late, Of::Host(&host(9))).err(), Some(Full::Total));
        let metrics = places.metrics.render().unwrap();
        for line in [
            r#"onceguard_resolver_places_in_use{dids="known",resolver="web"} 4"#,
            r#"onceguard_resolver_places_in_use{dids="new",resolver="web"} 8"#,
            r#"onceguard_resolver_refusals_total{reason="total",resolver="web"} 97"#,
        ] {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
    }

    #[test]
    fn many_names_of_one_address_have_its_part() {
        let places = places();
        let at = |text: &str| std::iter::once(text.parse::<IpAddr>().unwrap());
        let held = placed(&places, network, |n| host(n.into()));
        let (few, more) = held.split_at(LIMITS.per_address);
        for (number, place) in few.iter().enumerate() {
            // All in one network, where one host may take any address.
            place.at(at(&format!("2001:db8::{number}"))).unwrap();
            place.at(at(&format!("2001:db8::{number}"))).unwrap();
        }
        for place in more {
            assert_eq!(place.at(at("2001:db8::ffff")), Err(Full::Address));
        }
        assert_eq!(more.len(), 5);
        for (number, place) in more.iter().enumerate() {
            assert_eq!(place.at(at("2001:db8:1::ffff")).is_ok(), number < LIMITS.per_address);
        }
    }

    #[test]
    fn places_are_given_back() {
        let places = places();
        for _ in 0..3 {
            let held = placed(&places, network, |n| host(n.into()));
            for place in &held {
                let _ = place.at([IpAddr::from([192, 0, 2, 1])].into_iter());
            }
            assert_eq!(held.len(), LIMITS.total - LIMITS.known);
        }
        let held = places.held();
        assert_eq!((held.known, held.new, held.parts.len()), (0, 0, 0));
    }

    #[test]
    fn a_method_of_many_has_its_part() {
        let places = places();
        let ion = |n| places.enter(&network(n), Of::Method("ion"));
        let held: Vec<_> = (0..10).filter_map(|n| ion(n).ok()).collect();
        assert_eq!(held.len(), LIMITS.per_method);
        assert_eq!(ion(20).err(), Some(Full::Method));
        places.enter(&network(20), Of::Method("ebsi")).unwrap();
        places.enter(&network(20), Of::Registry).unwrap();
    }
}
