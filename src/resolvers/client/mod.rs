//! The HTTPS client for hosts that strangers choose. It dials no address that it has not
//! checked, follows no redirect, takes no proxy from the environment, keeps no connection and no
//! cookie, and unpacks nothing.

mod address;
mod failure;
mod names;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use reqwest::header::ACCEPT;
use reqwest::{Response, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use url::{Host, Url};

use crate::authorities::{self, InvalidAuthorities};

pub(super) use failure::Failure;
pub(super) use names::Names;

const USER_AGENT: &str = concat!("onceguard/", env!("CARGO_PKG_VERSION"));

/// How long to wait before a connection is tried once more.
const RETRY_DELAY: Duration = Duration::from_millis(100);

pub(super) struct Client {
    names: Arc<Names>,
    /// The authorities that are trusted besides the system's.
    roots: RootCertStore,
    timeout: Duration,
    /// Made by the first that needs it: a start does not wait for the system's authorities.
    http: OnceCell<reqwest::Client>,
}

impl Client {
    /// The authorities of `ca_file` are trusted besides the system's. The addresses of a host
    /// share `timeout`, so that one that is silent leaves time for the others; the whole of a
    /// request is for the caller to bound.
    ///
    /// # Errors
    /// [`InvalidAuthorities`] when that file cannot be used.
    pub(super) fn new(
        names: Names,
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, InvalidAuthorities> {
        let roots = ca_file.map_or_else(|| Ok(RootCertStore::empty()), authorities::of_file)?;
        Ok(Self { names: Arc::new(names), roots, timeout, http: OnceCell::new() })
    }

    /// Sends a request, and once more when there is no connection. The answer has any status;
    /// its body is not read yet.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer.
    pub(super) async fn get(&self, url: &Url, accept: &'static str) -> Result<Response, Failure> {
        // Addresses in URLs are dialled without asking for their names.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if address.is_some_and(|address| !self.names.may_dial(address)) {
            return Err(Failure::Forbidden);
        }
        let http = self.http.get_or_try_init(|| self.build()).await?;
        let send = || async {
            let request = http.get(url.clone()).header(ACCEPT, accept);
            request.send().await.map_err(|error| Failure::of(&error))
        };
        let once = ConstantBuilder::default().with_delay(RETRY_DELAY).with_max_times(1);
        send.retry(once).when(Failure::is_connect).await
    }

    async fn build(&self) -> Result<reqwest::Client, Failure> {
        let (mut roots, setup) = (self.roots.clone(), |why: String| Failure::Setup(why));
        let reading = spawn_blocking(move || {
            authorities::add_system(&mut roots);
            roots
        });
        let roots = reading.await.map_err(|error| setup(error.to_string()))?;
        if roots.is_empty() {
            return Err(setup("the system has no authorities to trust".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::clone(&self.names))
            .connect_timeout(self.timeout)
            // Strangers' hosts are many: their connections would pile up.
            .pool_max_idle_per_host(0)
            // A few bytes may unpack to very many.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| setup(error.to_string()))
    }
}
