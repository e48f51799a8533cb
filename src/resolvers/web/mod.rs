//! did:web (W3C CCG did:web method): the document is on the host that the DID names, which any
//! stranger may choose.

mod breakers;
mod in_flight;
mod place;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_ENCODING;

use super::body;
use super::client::{Client, Failure, Names};
use super::{Answer, InvalidResolver, Resolution, Unreachable};
use crate::config::{self, Host};
use crate::domain::{Did, DidDocument};

use breakers::Breakers;
use in_flight::InFlight;
use place::Place;

/// The method's name.
pub(super) const METHOD: &str = "web";

/// The largest document, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// How long a host that does not answer is left alone.
const BREAK: Duration = Duration::from_secs(10);

const ACCEPT: &str = "application/did+json, application/did+ld+json, application/json";

pub(super) struct Web {
    ttl: Duration,
    timeout: Duration,
    allowed_hosts: Vec<Host>,
    allow_private_addresses: bool,
    client: Client,
    in_flight: Arc<InFlight>,
    breakers: Breakers,
}

impl Web {
    pub(super) fn new(config: &config::Web) -> Result<Self, InvalidResolver> {
        let names = Names::of_system(config.allow_private_addresses, InFlight::MAX);
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
            in_flight: Arc::default(),
            breakers: Breakers::new(BREAK),
        })
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        let answer = match Place::of(did, self.allow_private_addresses) {
            Err(error) => Answer::Unusable(error.to_string()),
            Ok(place) if !self.allows(&place.host) => {
                Answer::Unusable(format!("{} is not in resolvers.web.allowed_hosts", place.host))
            }
            Ok(place) => self.read(did, &place).await?,
        };
        Ok(Resolution { answer, version: None })
    }

    fn allows(&self, host: &Host) -> bool {
        self.allowed_hosts.is_empty() || self.allowed_hosts.contains(host)
    }

    /// Asks the host, unless too much is asked already, or it did not answer lately.
    async fn read(&self, did: &Did, place: &Place) -> Result<Answer, Unreachable> {
        let host = place.authority();
        let unreachable = |why: &dyn Display| Unreachable(format!("{host} {why}"));
        let _slot = self.in_flight.enter(&host).map_err(|why| unreachable(&why))?;
        let asked = async {
            let asked = tokio::time::timeout(self.timeout, self.ask(did, place)).await;
            match asked.unwrap_or(Err(Failure::Late(self.timeout))) {
                Err(failure @ (Failure::Forbidden | Failure::TooLarge)) => {
                    Ok(Answer::Unusable(format!("{host} {failure}")))
                }
                asked => asked,
            }
        };
        match self.breakers.of(&host).await.call(asked).await {
            Ok(answer) => Ok(answer),
            Err(recloser::Error::Inner(failure)) => Err(unreachable(&failure)),
            Err(recloser::Error::Rejected) => {
                Err(unreachable(&"did not answer lately, and is not asked for now"))
            }
        }
    }

    async fn ask(&self, did: &Did, place: &Place) -> Result<Answer, Failure> {
        let response = self.client.get(&place.url, ACCEPT).await?;
        let status = response.status();
        let unusable =
            |why: &dyn Display| Ok(Answer::Unusable(format!("{} {why}", place.authority())));
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Answer::NotFound),
            StatusCode::GONE => return Ok(Answer::Deactivated { finalized_at: None }),
            StatusCode::TOO_MANY_REQUESTS => return Err(Failure::Status(status.as_u16())),
            _ if status.is_server_error() => return Err(Failure::Status(status.as_u16())),
            _ if status.is_redirection() => {
                return unusable(&format_args!(
                    "redirects ({}): that is not followed",
                    status.as_u16()
                ));
            }
            _ => return unusable(&format_args!("answers {}", status.as_u16())),
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return unusable(&"answers with a Content-Encoding, which was not asked for");
        }
        let body = body::read(response, MAX_DOCUMENT).await?;
        let Ok(json) = serde_json::from_slice(&body) else {
            return unusable(&"answers with what is not JSON");
        };
        Ok(match DidDocument::parse(did, json) {
            Ok(document) => Answer::Document { document, owner_address: None },
            Err(error) => Answer::Unusable(error.to_string()),
        })
    }
}
