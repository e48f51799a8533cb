//! Where DIDs live. Each resolver reads the DIDs of its methods; [`Resolvers`] finds the one that
//! serves a DID and asks it. Nothing here knows what is cached, stored or revoked.

mod answer;
mod body;
mod client;
pub mod did_key;
mod operated;
mod places;
mod registry;
mod universal;
mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config;
use crate::domain::Did;
use crate::metrics::Metrics;
use crate::origin::Origin;

pub use answer::{Answer, InvalidResolver, Resolution, Unreachable, Unusable};
pub use client::{Sender, Sent, Unsent, is_global_unicast};
use places::Places;
pub use places::{Account, Full};
use registry::Registry;
use universal::Universal;
use web::Web;

/// The resolvers' names: the `source` of what they read, and their label in metrics.
const WEB: &str = "web";
const REGISTRY: &str = "registry";
const UNIVERSAL: &str = "universal";

/// The resolver of a DID's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The resolver's name, and the `source` of what it reads.
    pub source: &'static str,
    /// How long an answer is used before the home is asked again.
    pub ttl: Duration,
}

/// The configured resolvers. Clones share them.
#[derive(Clone)]
pub struct Resolvers {
    web: Option<Arc<Web>>,
    registry: Option<Arc<Registry>>,
    universal: Option<Arc<Universal>>,
    metrics: Arc<Metrics>,
    /// Drives the connections. Otherwise they would end with the HTTP worker that opened them.
    runtime: Handle,
}

/// A description of one resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The `source` of what it reads.
    pub source: &'static str,
    /// The methods that it reads. Empty means every method that no other resolver reads.
    pub methods: Vec<String>,
    /// How long its answers hold. `None` means for ever.
    pub ttl: Option<Duration>,
}

enum Resolver {
    Web(Arc<Web>),
    Registry(Arc<Registry>),
    Universal(Arc<Universal>),
}

impl Resolvers {
    /// # Errors
    /// [`InvalidResolver`] when a file that the configuration names cannot be used.
    pub fn new(
        config: &config::Resolvers,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Result<Self, InvalidResolver> {
        let places = |resolver| Places::new(resolver, &config.places, Arc::clone(&metrics));
        let web = config.web.enabled.then(|| Web::new(&config.web, places(WEB))).transpose()?;
        let registry = config.registry.as_ref();
        let registry =
            registry.map(|config| Registry::new(config, places(REGISTRY))).transpose()?;
        let universal = config.universal.as_ref();
        let universal =
            universal.map(|config| Universal::new(config, places(UNIVERSAL))).transpose()?;
        Ok(Self {
            web: web.map(Arc::new),
            registry: registry.map(Arc::new),
            universal: universal.map(Arc::new),
            metrics,
            runtime,
        })
    }

    /// All configured resolvers, did:key first.
    #[must_use]
    pub fn readers(&self) -> Vec<Reader> {
        let key = Reader { source: "key", methods: vec![did_key::METHOD.to_owned()], ttl: None };
        let resolvers = [
            self.web.clone().map(|web| (vec![web::METHOD.to_owned()], Resolver::Web(web))),
            self.registry
                .clone()
                .map(|registry| (vec![registry::METHOD.to_owned()], Resolver::Registry(registry))),
            self.universal
                .clone()
                .map(|universal| (universal.methods().to_vec(), Resolver::Universal(universal))),
        ];
        let reader = |(methods, resolver): (Vec<String>, Resolver)| {
            let Home { source, ttl } = resolver.home();
            Reader { source, methods, ttl: Some(ttl) }
        };
        std::iter::once(key).chain(resolvers.into_iter().flatten().map(reader)).collect()
    }

    /// The resolver of this DID, if there is one.
    #[must_use]
    pub fn home(&self, did: &Did) -> Option<Home> {
        self.resolver(did).map(|resolver| resolver.home())
    }

    /// Reads a DID from its home. The reading goes on to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// [`Unreachable`] when its home gave no answer or was not asked, or no resolver reads this
    /// DID.
    pub async fn resolve(&self, did: &Did, account: Account) -> Result<Resolution, Unreachable> {
        let Some(resolver) = self.resolver(did) else {
            return Err(Unreachable::no_resolver(did));
        };
        let (source, did) = (resolver.home().source, did.clone());
        let began = Instant::now();
        let reading = Origin::current().run(async move { resolver.resolve(&did, &account).await });
        let reading = self.runtime.spawn(reading);
        let result =
            reading.await.unwrap_or_else(|error| Err(Unreachable::Failed(error.to_string())));
        let outcome = match &result {
            Ok(Resolution { answer: Answer::Document { .. }, .. }) => "found",
            Ok(Resolution { answer: Answer::NotFound, .. }) => "not_found",
            Ok(Resolution { answer: Answer::Deactivated { .. }, .. }) => "deactivated",
            Ok(Resolution { answer: Answer::Unusable(_), .. }) => "unusable",
            Err(Unreachable::Failed(_)) => "unreachable",
            // Nothing was read. The refusal is counted where it happens.
            Err(Unreachable::Full(_)) => return result,
        };
        self.metrics.resolutions.with_label_values(&[source, outcome]).inc();
        let seconds = self.metrics.resolution_seconds.with_label_values(&[source]);
        seconds.observe(began.elapsed().as_secs_f64());
        result
    }

    fn resolver(&self, did: &Did) -> Option<Resolver> {
        match did.method() {
            did_key::METHOD => None,
            web::METHOD if self.web.is_some() => self.web.clone().map(Resolver::Web),
            registry::METHOD if self.registry.is_some() => {
                self.registry.clone().map(Resolver::Registry)
            }
            method => self
                .universal
                .clone()
                .filter(|universal| universal.reads(method))
                .map(Resolver::Universal),
        }
    }
}

impl Resolver {
    fn home(&self) -> Home {
        match self {
            Self::Web(web) => Home { source: WEB, ttl: web.ttl() },
            Self::Registry(registry) => Home { source: REGISTRY, ttl: registry.ttl() },
            Self::Universal(universal) => Home { source: UNIVERSAL, ttl: universal.ttl() },
        }
    }

    async fn resolve(&self, did: &Did, account: &Account) -> Result<Resolution, Unreachable> {
        match self {
            Self::Web(web) => web.resolve(did, account).await,
            Self::Registry(registry) => registry.resolve(did, account).await,
            Self::Universal(universal) => universal.resolve(did, account).await,
        }
    }
}
