//! Sends to hosts that callers choose. It dials only addresses that it has checked, follows no redirect,
//! takes no proxy from the environment, and keeps connections, because much is sent to few hosts.

use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, redirect};
use rustls::RootCertStore;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::{Host, Url};

use super::{Failure, Names, USER_AGENT, tls_that_trusts, with_system};
use crate::authorities;
use crate::config;
use crate::resolvers::InvalidResolver;

/// How much of an answer is read, and for how long, so that its connection can be used again.
const MOST_READ: usize = 16 * 1024;
const READ_FOR: Duration = Duration::from_secs(1);
/// How long a connection is kept that nothing is sent over.
const IDLE: Duration = Duration::from_secs(30);

/// Clones share the connections.
#[derive(Clone)]
pub struct Sender {
    names: Arc<Names>,
    allow_private_addresses: bool,
    /// The authorities that are trusted besides the system's.
    roots: RootCertStore,
    timeout: Duration,
    connections: usize,
    /// Made on first use, so that a start does not wait for the system's authorities.
    http: Arc<OnceCell<reqwest::Client>>,
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub status: u16,
    /// The header as it came.
    pub retry_after: Option<String>,
}

/// Why a host did not answer. The text follows the host's name, and never repeats what it sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Unsent(#[from] Failure);

impl Sender {
    /// Without `allow_private_addresses`, it dials public addresses only, and sends only over TLS. It
    /// keeps as many idle connections to a host as it may use at the same time.
    ///
    /// # Errors
    /// [`InvalidResolver`] when the file of authorities cannot be used.
    pub fn new(config: &config::Webhooks) -> Result<Self, InvalidResolver> {
        let roots = config.ca_file.as_deref().map(|file| {
            authorities::of_file(file).map_err(|error| InvalidResolver {
                key: "webhooks.ca_file",
                message: format!("{}: {error}", file.display()),
            })
        });
        Ok(Self {
            names: Arc::new(Names::of_system(config.allow_private_addresses)),
            allow_private_addresses: config.allow_private_addresses,
            roots: roots.transpose()?.unwrap_or_else(RootCertStore::empty),
            timeout: config.timeout,
            connections: usize::try_from(config.max_in_flight_per_endpoint).unwrap_or(usize::MAX),
            http: Arc::default(),
        })
    }

    /// Sends a body, and waits for the answer's status.
    ///
    /// # Errors
    /// [`Unsent`] when there is none.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<Sent, Unsent> {
        let sending = timeout(self.timeout, self.send(url, headers, body));
        let response = sending.await.unwrap_or(Err(Failure::Late(self.timeout)))?;
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        // The status says all: what comes of the rest does not matter.
        let _ = timeout(READ_FOR, read(response)).await;
        Ok(Sent { status, retry_after })
    }

    async fn send(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, Failure> {
        let http = self.http.get_or_try_init(|| self.client()).await?;
        // No name is looked up for these.
        match url.host() {
            Some(Host::Ipv4(address)) => self.names.check(address.into())?,
            Some(Host::Ipv6(address)) => self.names.check(address.into())?,
            Some(Host::Domain(_)) => {}
            None => return Err(Failure::Forbidden),
        }
        let request = http.post(url.clone()).headers(headers).body(body);
        request.send().await.map_err(|error| Failure::of(&error))
    }

    async fn client(&self) -> Result<reqwest::Client, Failure> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls_that_trusts(with_system(self.roots.clone()).await?)?)
            .https_only(!self.allow_private_addresses)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(Checked(Arc::clone(&self.names))))
            .connect_timeout(self.timeout)
            .pool_max_idle_per_host(self.connections)
            .pool_idle_timeout(IDLE)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| Failure::Setup(error.to_string()))
    }
}

async fn read(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MOST_READ {
            return;
        }
    }
}

/// Looks names up, and gives only addresses that may be dialled.
struct Checked(Arc<Names>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = names.addresses(name.as_str(), ()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::config::{Need, Sources};

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn of_names(allow: bool, look_up: fn(&str) -> std::io::Result<Vec<SocketAddr>>) -> Sender {
        let may_dial = if allow { |_| true } else { super::super::address::is_global_unicast };
        let names = Arc::new(Names::new(Arc::new(look_up), may_dial));
        let loaded = Sources::default().load(Need::Database).unwrap();
        let mut config = loaded.config.webhooks;
        config.allow_private_addresses = allow;
        Sender { names, ..Sender::new(&config).unwrap() }
    }

    async fn why(sender: &Sender, to: &str) -> Failure {
        sender.post(&url(to), HeaderMap::new(), Vec::new()).await.unwrap_err().0
    }

    /// A name may lead anywhere, and change between two look-ups: what is dialled was checked.
    #[tokio::test]
    async fn no_private_address_is_dialled_by_number_or_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sender = of_names(false, |_| Ok(vec!["127.0.0.1:0".parse().unwrap()]));
        for host in ["127.0.0.1", "[::1]", "localhost", "receiver.example", "2130706433"] {
            let to = format!("https://{host}:{port}/");
            assert_eq!(why(&sender, &to).await, Failure::Forbidden, "{host}");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn nothing_is_sent_without_tls_to_a_public_host() {
        let sender = of_names(false, |_| Ok(vec!["1.0.0.1:0".parse().unwrap()]));
        assert_eq!(why(&sender, "http://receiver.example/").await, Failure::Broken);
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_said_so() {
        let sender = of_names(true, |_| Err(ErrorKind::NotFound.into()));
        let why = why(&sender, "http://receiver.example/").await;
        assert_eq!(why, Failure::Connect("cannot be found by its name"));
    }
}
