//! Every other method, through a Universal Resolver: a server that the operator has chosen, and
//! that speaks the HTTP(S) binding of W3C DID Resolution.
//!
//! It is trusted to say what a document is, but not to be in order: an answer that is no statement
//! about the DID counts as no answer.

mod fault;
mod result;

use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use recloser::{AsyncRecloser, Recloser};
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use url::Url;

use self::fault::Fault;
use super::answer::{Answer, InvalidResolver, Resolution, Unreachable, Unusable};
use super::body::{self, BadBody};
use super::operated;
use super::places::{Account, Of, Places};
use crate::config;
use crate::domain::Did;

/// Preferably the whole result, in one of its two forms; else only the document.
const MEDIA_TYPES: &str = "application/did-resolution, \
     application/ld+json;profile=\"https://w3id.org/did-resolution\", \
     application/did+ld+json;q=0.9, application/did+json;q=0.9, application/did;q=0.9";

/// Everything in a DID is encoded, except unreserved characters (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// How long to wait before a connection is tried once more.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// After this many failures in a row, and one more at first, the resolver is not asked for a while.
const MAX_FAILURES: usize = 5;
/// How long it is not asked. Then one reading decides whether it is asked again.
const LEFT_ALONE: Duration = Duration::from_secs(10);

pub(super) struct Universal {
    url: Url,
    methods: Vec<String>,
    ttl: Duration,
    timeout: Duration,
    client: reqwest::Client,
    breaker: AsyncRecloser,
    places: Arc<Places>,
}

impl Universal {
    pub(super) fn new(
        config: &config::Universal,
        places: Arc<Places>,
    ) -> Result<Self, InvalidResolver> {
        let invalid =
            |why: &str| InvalidResolver { key: "resolvers.universal.url", message: why.to_owned() };
        let client =
            operated::client().map_err(|why| invalid(&format!("TLS cannot be set up: {why}")))?;
        let breaker = Recloser::custom()
            .closed_len(MAX_FAILURES)
            .error_rate_closed(1.0)
            .half_open_len(1)
            .open_wait(LEFT_ALONE);
        Ok(Self {
            url: config.url.url().clone(),
            methods: config.methods.clone(),
            ttl: config.ttl,
            timeout: config.timeout,
            client,
            breaker: breaker.build().into(),
            places,
        })
    }

    pub(super) fn reads(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|listed| listed == method)
    }

    /// The methods that it is asked for. Empty means all.
    pub(super) fn methods(&self) -> &[String] {
        &self.methods
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(
        &self,
        did: &Did,
        account: &Account,
    ) -> Result<Resolution, Unreachable> {
        let _place = self.places.enter(account, Of::Method(did.method()))?;
        match self.breaker.call_with(Fault::is_failure, self.ask_in_time(did)).await {
            Ok(answer) => Ok(Resolution { answer, version: None }),
            Err(recloser::Error::Inner(fault)) => {
                Err(Unreachable::Failed(format!("the Universal Resolver {fault}")))
            }
            Err(recloser::Error::Rejected) => Err(Unreachable::Failed(
                "the Universal Resolver is left alone, having failed often".to_owned(),
            )),
        }
    }

    async fn ask_in_time(&self, did: &Did) -> Result<Answer, Fault> {
        let asking = self.ask(did);
        let late = |_| Err(Fault::Late(self.timeout));
        tokio::time::timeout(self.timeout, asking).await.unwrap_or_else(late)
    }

    async fn ask(&self, did: &Did) -> Result<Answer, Fault> {
        let url = self.url_of(did);
        let send = || async {
            let request = self.client.get(url.clone()).header(ACCEPT, MEDIA_TYPES);
            request.send().await.map_err(|error| {
                let why = operated::reason(&error);
                if error.is_connect() { Fault::NoConnection(why) } else { Fault::BrokenOff(why) }
            })
        };
        let once = ConstantBuilder::default().with_delay(RETRY_AFTER).with_max_times(1);
        let response =
            send.retry(once).when(|fault| matches!(fault, Fault::NoConnection(_))).await?;
        let status = response.status();
        let body = match body::read(response, MAX_ANSWER).await {
            Ok(body) => body,
            Err(BadBody::TooLarge) if status == StatusCode::OK => {
                let why = "its document has more than 64 KiB".to_owned();
                return Ok(Answer::Unusable(Unusable::Document(why)));
            }
            Err(BadBody::TooLarge) => Vec::new(),
            Err(BadBody::BrokenOff(error)) => {
                return Err(Fault::BrokenOff(operated::reason(&error)));
            }
        };
        result::read(did, status, &body)
    }

    /// The DID is percent-encoded, including its colons: resolvers take a path that starts with
    /// `did:` as it is, and decode one that starts with `did%3A`.
    fn url_of(&self, did: &Did) -> Url {
        let mut url = self.url.clone();
        let (below, did) = (url.path().trim_end_matches('/'), did.as_str());
        let path = format!("{below}/1.0/identifiers/{}", utf8_percent_encode(did, ENCODED));
        url.set_path(&path);
        url
    }
}
