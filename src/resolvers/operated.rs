//! HTTP to servers that the operator has chosen, wherever they are: no proxy from the
//! environment, no redirects, the system's certificate authorities.

use std::error::Error as _;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A client for the endpoints of a resolver. It sets no time limits: its callers do.
///
/// # Errors
/// Why TLS cannot be set up.
pub(super) fn client() -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .build()
        .map_err(|error| reason(&error))
}

/// Why a request failed, without the URL, which may hold credentials.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadBody {
    TooLarge,
    BrokenOff(String),
}

/// The whole body of a response, if it has at most `limit` bytes.
///
/// # Errors
/// [`BadBody`].
pub(super) async fn body(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Vec<u8>, BadBody> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(BadBody::TooLarge),
            Ok(None) => return Ok(body),
            Err(error) => return Err(BadBody::BrokenOff(reason(&error))),
        }
    }
}
