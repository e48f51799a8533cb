//! `[webhooks]`: how events are sent to receivers, how long that is remembered, and receivers that the
//! configuration names.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::{Given, MASK, NAMES, Reader, Show, is_name};
use crate::domain::{HeardType, MAX_WEBHOOK_TYPES, WebhookSecret};

const SECTION: &str = "webhooks.endpoints";

/// `[webhooks]`.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Whether receivers may have private addresses, and URLs with plain `http`.
    pub allow_private_addresses: bool,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// The most attempts of this instance at the same time, in all and at one receiver.
    pub max_in_flight: u32,
    pub max_in_flight_per_endpoint: u32,
    pub delivered_retention: Duration,
    /// Also of events that a webhook has not been given yet.
    pub undelivered_retention: Duration,
    /// Of different names.
    pub endpoints: Vec<WebhookEndpoint>,
}

/// `[webhooks.endpoints.<name>]`: a webhook that every start makes as it is here.
#[derive(Debug, Clone)]
pub struct WebhookEndpoint {
    pub name: String,
    /// It may have a secret in it.
    pub url: SecretString,
    pub types: Vec<String>,
    /// What deliveries are signed with.
    pub secret: WebhookSecret,
}

impl Webhooks {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            allow_private_addresses: reader.boolean("webhooks.allow_private_addresses", false),
            ca_file: reader.optional_path("webhooks.ca_file"),
            timeout: reader.seconds("webhooks.timeout_seconds", 15, 1..=60),
            max_in_flight: reader.number("webhooks.max_in_flight", 128, 1..=4096),
            max_in_flight_per_endpoint: reader.number(
                "webhooks.max_in_flight_per_endpoint",
                16,
                1..=256,
            ),
            delivered_retention: reader.days("webhooks.delivered_retention_days", 30, 1..=3650),
            undelivered_retention: reader.days("webhooks.undelivered_retention_days", 90, 4..=3650),
            endpoints: reader
                .tables_in_file(SECTION)
                .into_iter()
                .filter_map(|name| WebhookEndpoint::read(reader, name))
                .collect(),
        }
    }
}

impl WebhookEndpoint {
    /// `None` if something is wrong, which the reader knows then.
    fn read(reader: &mut Reader, name: String) -> Option<Self> {
        if !is_name(&name) {
            reader.refuse(&format!("{SECTION}.{name}"), NAMES);
        }
        let key = |key: &str| format!("{SECTION}.{name}.{key}");
        let text = |given: &Given| {
            given.text().map(SecretString::from).ok_or_else(|| "must be text".to_owned())
        };
        let url = reader.optional(&key("url"), Show::Secret, text, |_| MASK.into());
        let types = |given: &Given| {
            let texts =
                given.texts().filter(|texts| (1..=MAX_WEBHOOK_TYPES).contains(&texts.len()));
            let texts = texts.ok_or_else(|| {
                format!("must be a list of 1 to {MAX_WEBHOOK_TYPES} types of events")
            })?;
            let heard = texts
                .into_iter()
                .map(|text| HeardType::parse(text).map(|heard| heard.as_str().to_owned()));
            heard.collect::<Result<Vec<_>, _>>().map_err(|error| format!("each {error}"))
        };
        let types =
            reader.optional(&key("types"), Show::Plain, types, |types| types.clone().into());
        let secret = |given: &Given| {
            let secret = given.text().and_then(WebhookSecret::parse);
            secret.ok_or_else(|| "must be whsec_ or whsk_, and 32 bytes in base64".to_owned())
        };
        let secret = reader.optional(&key("secret"), Show::Secret, secret, |_| MASK.into());
        for (missing, of) in
            [(url.is_none(), "url"), (types.is_none(), "types"), (secret.is_none(), "secret")]
        {
            if missing {
                reader.refuse(&key(of), "is required");
            }
        }
        Some(Self { url: url?, types: types?, secret: secret?, name })
    }
}
