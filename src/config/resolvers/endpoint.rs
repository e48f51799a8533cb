//! The URL of a server that the operator lets a resolver ask.

use std::fmt;

use url::Url;

/// An `http` or `https` URL. It may hold credentials, so only its host is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The form that [`Self::parse`] takes, for error messages.
    pub(super) const ALLOWED: &'static str = "http:// or https:// URLs without a fragment";

    pub(super) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let ok =
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none();
        ok.then_some(Self(url))
    }

    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}
