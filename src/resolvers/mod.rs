//! Where DIDs live. Each resolver reads the DIDs of its methods; [`Resolvers`] finds the one that
//! serves a DID and asks it. Nothing here knows what is cached, stored or revoked.

mod body;
mod client;
pub mod did_key;
mod operated;
mod registry;
mod universal;
mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config;
use crate::domain::{Did, DidDocument};
use crate::metrics::Metrics;

use registry::Registry;
use universal::Universal;
use web::Web;

/// What a resolver says of a DID.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    pub answer: Answer,
    /// The block at which it was read, where there are blocks.
    pub version: Option<u64>,
}

/// The DID's document, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Document {
        document: DidDocument,
        /// The blockchain address that owns the DID.
        owner_address: Option<String>,
    },
    /// Its home does not know the DID.
    NotFound,
    /// Its home has taken the DID out of use.
    Deactivated {
        /// The finalized block in which it already was so, where there are blocks.
        finalized_at: Option<u64>,
    },
    /// It is no DID of its method, or what its home gave may not be used; the text says why.
    Unusable(String),
}

/// The DID's home could not be asked, or gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Who reads a DID's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The resolver's name, and the `source` of what it reads.
    pub source: &'static str,
    /// For how long what it reads is used without asking again.
    pub ttl: Duration,
}

/// The configured resolvers. Clones share them.
#[derive(Clone)]
pub struct Resolvers {
    web: Option<Arc<Web>>,
    registry: Option<Arc<Registry>>,
    universal: Option<Arc<Universal>>,
    metrics: Arc<Metrics>,
    /// Drives the connections: those of a server's worker would die with it.
    runtime: Handle,
}

/// A resolver that cannot be set up as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct InvalidResolver {
    pub key: &'static str,
    pub message: String,
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
        let web = config.web.enabled.then(|| Web::new(&config.web)).transpose()?;
        let registry = config.registry.as_ref().map(Registry::new).transpose()?;
        let universal = config.universal.as_ref().map(Universal::new).transpose()?;
        Ok(Self {
            web: web.map(Arc::new),
            registry: registry.map(Arc::new),
            universal: universal.map(Arc::new),
            metrics,
            runtime,
        })
    }

    /// Who reads this DID; `None` when nobody does.
    #[must_use]
    pub fn home(&self, did: &Did) -> Option<Home> {
        self.resolver(did).map(|resolver| resolver.home())
    }

    /// Reads a DID from its home. Goes on, and ends, whoever stops waiting for it.
    ///
    /// # Errors
    /// [`Unreachable`] when its home gave no answer, or nobody reads this DID.
    pub async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        let Some(resolver) = self.resolver(did) else {
            return Err(Unreachable(format!("no resolver reads did:{}", did.method())));
        };
        let (source, did) = (resolver.home().source, did.clone());
        let began = Instant::now();
        let reading = self.runtime.spawn(async move { resolver.resolve(&did).await });
        let result = reading.await.unwrap_or_else(|error| Err(Unreachable(error.to_string())));
        let outcome = match &result {
            Ok(Resolution { answer: Answer::Document { .. }, .. }) => "found",
            Ok(Resolution { answer: Answer::NotFound, .. }) => "not_found",
            Ok(Resolution { answer: Answer::Deactivated { .. }, .. }) => "deactivated",
            Ok(Resolution { answer: Answer::Unusable(_), .. }) => "unusable",
            Err(Unreachable(_)) => "unreachable",
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
            Self::Web(web) => Home { source: "web", ttl: web.ttl() },
            Self::Registry(registry) => Home { source: "registry", ttl: registry.ttl() },
            Self::Universal(universal) => Home { source: "universal", ttl: universal.ttl() },
        }
    }

    async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        match self {
            Self::Web(web) => web.resolve(did).await,
            Self::Registry(registry) => registry.resolve(did).await,
            Self::Universal(universal) => universal.resolve(did).await,
        }
    }
}
