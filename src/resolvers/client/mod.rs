//! The HTTPS client for hosts that strangers choose. It dials only addresses that it has checked
//! and counted. It follows no redirect, takes no proxy from the environment, keeps no connection
//! and no cookie, and decompresses nothing.

mod address;
mod failure;
mod names;
mod sender;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::header::ACCEPT;
use reqwest::{Response, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use url::{Host, Url};

use super::places::Place;
use crate::authorities::{self, InvalidAuthorities};

pub use address::is_global_unicast;
pub(super) use failure::Failure;
pub(super) use names::Names;
pub use sender::{Sender, Sent, Unsent};

const USER_AGENT: &str = concat!("onceguard/", env!("CARGO_PKG_VERSION"));

/// How long to wait before a connection is tried once more.
const RETRY_DELAY: Duration = Duration::from_millis(100);

pub(super) struct Client {
    names: Names,
    /// The authorities that are trusted besides the system's.
    roots: RootCertStore,
    timeout: Duration,
    /// Made on first use, so that a start does not wait for the system's authorities.
    tls: OnceCell<ClientConfig>,
}

impl Client {
    /// The authorities of `ca_file` are trusted besides the system's. The addresses of a host share
    /// `timeout`, so that a silent one leaves time for the others. The caller bounds the whole
    /// request.
    ///
    /// # Errors
    /// [`InvalidAuthorities`] when that file cannot be used.
    pub(super) fn new(
        names: Names,
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, InvalidAuthorities> {
        let roots = ca_file.map_or_else(|| Ok(RootCertStore::empty()), authorities::of_file)?;
        Ok(Self { names, roots, timeout, tls: OnceCell::new() })
    }

    /// Sends a request, and tries once more when no connection could be opened. The answer can have
    /// any status. Its body is not read yet, and the place must be held until it is.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer.
    pub(super) async fn get(
        &self,
        url: &Url,
        accept: &'static str,
        place: &Arc<Place>,
    ) -> Result<Response, Failure> {
        let tls = self.tls.get_or_try_init(|| self.set_up_tls()).await?;
        let send = || async {
            let addresses = self.addresses(url, place).await?;
            place.at(addresses.iter().map(SocketAddr::ip))?;
            let http = self.client(tls.clone(), url, &addresses)?;
            let request = http.get(url.clone()).header(ACCEPT, accept);
            request.send().await.map_err(|error| Failure::of(&error))
        };
        let once = ConstantBuilder::default().with_delay(RETRY_DELAY).with_max_times(1);
        send.retry(once).when(Failure::may_pass).await
    }

    /// The addresses that may be dialled.
    async fn addresses(&self, url: &Url, place: &Arc<Place>) -> Result<Vec<SocketAddr>, Failure> {
        // An address in a URL needs no look-up.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(name)) => {
                return self.names.addresses(name, Arc::clone(place)).await;
            }
            None => return Err(Failure::Forbidden),
        };
        self.names.check(address)?;
        Ok(vec![SocketAddr::new(address, 0)])
    }

    /// A client for one connection. It knows only these addresses of the URL's host.
    fn client(
        &self,
        tls: ClientConfig,
        url: &Url,
        addresses: &[SocketAddr],
    ) -> Result<reqwest::Client, Failure> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(NoNames))
            .resolve_to_addrs(url.host_str().unwrap_or_default(), addresses)
            .connect_timeout(self.timeout)
            // Strangers can name many hosts, whose connections would pile up.
            .pool_max_idle_per_host(0)
            // A few bytes may decompress to very many.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| Failure::Setup(error.to_string()))
    }

    async fn set_up_tls(&self) -> Result<ClientConfig, Failure> {
        let roots = with_system(self.roots.clone()).await?;
        if roots.is_empty() {
            return Err(Failure::Setup("the system has no authorities to trust".to_owned()));
        }
        tls_that_trusts(roots)
    }
}

/// These authorities, and the system's.
async fn with_system(mut roots: RootCertStore) -> Result<RootCertStore, Failure> {
    let reading = spawn_blocking(move || {
        authorities::add_system(&mut roots);
        roots
    });
    reading.await.map_err(|error| Failure::Setup(error.to_string()))
}

fn tls_that_trusts(roots: RootCertStore) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}

/// Resolves no name, so that only checked addresses are dialled.
struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, name: Name) -> Resolving {
        let why = format!("{} was not looked up", name.as_str());
        Box::pin(async { Err(why.into()) })
    }
}
