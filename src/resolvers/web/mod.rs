//! did:web (W3C CCG did:web method): the document is on the host that the DID names. Any stranger
//! may choose that host.

mod breakers;
mod location;

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_ENCODING;

use super::answer::{Answer, InvalidResolver, Resolution, Unreachable, Unusable};
use super::body;
use super::client::{Client, Failure, Names};
use super::places::{Account, Of, Place, Places};
use crate::config::{self, Host};
use crate::domain::{Did, DidDocument};

use breakers::Breakers;
use location::Location;

/// The method's name.
pub(super) const METHOD: &str = "web";

/// The largest document, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// How long a host that does not answer is not asked again.
const BREAK: Duration = Duration::from_secs(10);

const ACCEPT: &str = "application/did+json, application/did+ld+json, application/json";

pub(super) struct Web {
    ttl: Duration,
    timeout: Duration,
    allowed_hosts: Vec<Host>,
    allow_private_addresses: bool,
    client: Client,
    places: Arc<Places>,
    breakers: Breakers,
}

impl Web {
    pub(super) fn new(config: &config::Web, places: Arc<Places>) -> Result<Self, InvalidResolver> {
        let names = Names::of_system(config.allow_private_addresses);
        let ca_file = config.ca_file.as_deref();
        let client = Client::new(names, ca_file, config.timeout).map_err(|error| {
            let file = ca_file.map(|path| path.display().to_string()).unwrap_or_default();
            InvalidResolver { key: "resolvers.web.ca_file", message: format!("{file}: {error}") }
        })?;
        Ok(Self {
            ttl: config.ttl,
            timeout: config.timeout,
            allowed_hosts: config.allowed_hosts.clone(),
            allow_private_addresses: config.allow_private_addresses,
            client,
            places,
            breakers: Breakers::new(BREAK),
        })
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(
        &self,
        did: &Did,
        account: &Account,
    ) -> Result<Resolution, Unreachable> {
        let answer = match Location::of(did, self.allow_private_addresses) {
            Err(error) => Answer::Unusable(Unusable::Did(error.to_string())),
            Ok(location) if !self.allows(&location.host) => {
                let why = format!("{} is not in resolvers.web.allowed_hosts", location.host);
                Answer::Unusable(Unusable::Method(why))
            }
            Ok(location) => self.read(did, &location, account).await?,
        };
        Ok(Resolution { answer, version: None })
    }

    fn allows(&self, host: &Host) -> bool {
        self.allowed_hosts.is_empty() || self.allowed_hosts.contains(host)
    }

    /// Asks the host, unless its places are taken, or it did not answer a moment ago.
    async fn read(
        &self,
        did: &Did,
        location: &Location,
        account: &Account,
    ) -> Result<Answer, Unreachable> {
        let host = location.authority();
        let place = self.places.enter(account, Of::Host(&location.host))?;
        let asked = async {
            let asked = tokio::time::timeout(self.timeout, self.ask(did, location, &place)).await;
            asked.unwrap_or(Err(Failure::Late(self.timeout)))
        };
        let breaker = self.breakers.of(&host, account.known).await;
        match breaker.call_with(Failure::is_of_host, asked).await {
            Ok(answer) => Ok(answer),
            Err(recloser::Error::Inner(Failure::Full(full))) => Err(full.into()),
            Err(recloser::Error::Inner(failure)) => {
                Err(Unreachable::Failed(format!("{host} {failure}")))
            }
            Err(recloser::Error::Rejected) => Err(Unreachable::Failed(format!(
                "{host} did not answer lately, and is not asked for now"
            ))),
        }
    }

    /// Only 404, 410 and a document say something about the DID. Any other answer may be a mistake
    /// of the host, and says nothing about the DID.
    async fn ask(
        &self,
        did: &Did,
        location: &Location,
        place: &Arc<Place>,
    ) -> Result<Answer, Failure> {
        let response = self.client.get(&location.url, ACCEPT, place).await?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Answer::NotFound),
            StatusCode::GONE => return Ok(Answer::Deactivated { finalized_at: None }),
            StatusCode::TOO_MANY_REQUESTS => return Err(Failure::Unwell(status.as_u16())),
            _ if status.is_server_error() => return Err(Failure::Unwell(status.as_u16())),
            _ if status.is_redirection() => return Err(Failure::Redirect(status.as_u16())),
            _ => return Err(Failure::OtherStatus(status.as_u16())),
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(Failure::Encoded);
        }
        let body = body::read(response, MAX_DOCUMENT).await?;
        let json = serde_json::from_slice(&body).map_err(|_| Failure::NotJson)?;
        Ok(match DidDocument::parse(did, json) {
            Ok(document) => Answer::Document { document, owner_address: None },
            Err(error) => Answer::Unusable(error.into()),
        })
    }
}
