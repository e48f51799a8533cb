//! Where events may be sent. What a name leads to is checked each time that it is dialled.

use std::fmt;

use url::{Host, Url};

/// The longest, in bytes.
const MAX_LEN: usize = 2048;

/// A URL that events may be sent to. It may have a secret in it: `Debug` shows only its host.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhookUrl {
    #[error("must be a URL of at most {MAX_LEN} bytes, such as https://receiver.example/hooks")]
    Form,
    #[error("must begin with https:// (http:// needs webhooks.allow_private_addresses)")]
    Scheme,
    #[error("must have no user and no password: receivers verify the signature")]
    Credentials,
    #[error("must have no fragment (#…)")]
    Fragment,
    #[error("must have a public address or a name for its host (webhooks.allow_private_addresses)")]
    Private,
}

impl WebhookUrl {
    /// # Errors
    /// Why it is none. `allow_private` is `webhooks.allow_private_addresses`.
    pub fn parse(text: &str, allow_private: bool) -> Result<Self, InvalidWebhookUrl> {
        if text.len() > MAX_LEN {
            return Err(InvalidWebhookUrl::Form);
        }
        let url: Url = text.parse().map_err(|_| InvalidWebhookUrl::Form)?;
        match url.scheme() {
            "https" => {}
            "http" if allow_private => {}
            _ => return Err(InvalidWebhookUrl::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidWebhookUrl::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidWebhookUrl::Fragment);
        }
        let public = match url.host() {
            Some(Host::Domain(name)) => !is_local(name),
            Some(Host::Ipv4(address)) => crate::resolvers::is_global_unicast(address.into()),
            Some(Host::Ipv6(address)) => crate::resolvers::is_global_unicast(address.into()),
            None => return Err(InvalidWebhookUrl::Form),
        };
        if public || allow_private { Ok(Self(url)) } else { Err(InvalidWebhookUrl::Private) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Names that lead to this machine everywhere (RFC 6761).
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}/…)", self.0.host_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, InvalidWebhookUrl> {
        WebhookUrl::parse(text, false).map(|url| url.as_str().to_owned())
    }

    #[test]
    fn only_what_is_public_and_over_tls_is_taken() {
        for fit in [
            "https://receiver.example/hooks?a=b",
            "https://8.8.8.8/",
            "https://[2606:4700::1]:8443/",
        ] {
            assert_eq!(parse(fit), Ok(fit.to_owned()));
        }
        for (text, why) in [
            ("", InvalidWebhookUrl::Form),
            ("receiver.example", InvalidWebhookUrl::Form),
            ("https://", InvalidWebhookUrl::Form),
            ("http://receiver.example/", InvalidWebhookUrl::Scheme),
            ("ftp://receiver.example/", InvalidWebhookUrl::Scheme),
            ("file:///etc/passwd", InvalidWebhookUrl::Scheme),
            ("https://user@receiver.example/", InvalidWebhookUrl::Credentials),
            ("https://user:word@receiver.example/", InvalidWebhookUrl::Credentials),
            ("https://:word@receiver.example/", InvalidWebhookUrl::Credentials),
            ("https://receiver.example/#a", InvalidWebhookUrl::Fragment),
            ("https://127.0.0.1/", InvalidWebhookUrl::Private),
            ("https://2130706433/", InvalidWebhookUrl::Private),
            ("https://0x7f.1/", InvalidWebhookUrl::Private),
            ("https://169.254.169.254/latest", InvalidWebhookUrl::Private),
            ("https://[::1]/", InvalidWebhookUrl::Private),
            ("https://[::ffff:10.0.0.1]/", InvalidWebhookUrl::Private),
            ("https://LOCALHOST./", InvalidWebhookUrl::Private),
            ("https://a.localhost/", InvalidWebhookUrl::Private),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        let long = format!("https://receiver.example/{}", "x".repeat(MAX_LEN));
        assert_eq!(parse(&long), Err(InvalidWebhookUrl::Form));
    }

    #[test]
    fn private_addresses_and_plain_http_go_together() {
        for fit in ["http://127.0.0.1:9000/", "https://localhost/", "http://[::1]/"] {
            assert!(WebhookUrl::parse(fit, true).is_ok(), "{fit}");
        }
        for other in ["ftp://a/", "http://a:b@127.0.0.1/"] {
            assert!(WebhookUrl::parse(other, true).is_err(), "{other}");
        }
    }

    #[test]
    fn debug_hides_what_may_be_secret() {
        let url = WebhookUrl::parse("https://receiver.example/s3cret?k=s3cret", false).unwrap();
        assert_eq!(format!("{url:?}"), "WebhookUrl(receiver.example/…)");
    }
}
