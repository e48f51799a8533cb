//! HTTP to servers that the operator has chosen; their addresses are not restricted. No proxy from
//! the environment, no redirects, the system's certificate authorities.

use std::error::Error as _;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::authorities;

/// A client for the endpoints of a resolver. Its callers set the time limits.
///
/// # Errors
/// Why TLS cannot be set up.
pub(super) fn client() -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    authorities::add_system(&mut roots);
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
