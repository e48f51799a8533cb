//! Why there is no answer. The texts are our own, and never repeat what a host sent.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;

use crate::resolvers::body::BadBody;
use crate::resolvers::places::Full;

/// Why a host gave no usable answer. The text follows the host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::resolvers) enum Failure {
    /// It was not dialled.
    #[error("has no address that may be dialled")]
    Forbidden,
    /// No connection could be opened.
    #[error("{0}")]
    Connect(&'static str),
    /// The host could not prove its name.
    #[error("{0}")]
    Untrusted(&'static str),
    /// The connection broke, or the answer is not HTTP.
    #[error("broke off its answer")]
    Broken,
    #[error("answers with too many bytes")]
    TooLarge,
    /// A status that shows a fault of the host.
    #[error("answers {0}")]
    Unwell(u16),
    #[error("does not answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// A status that says nothing about the DID.
    #[error("answers {0}")]
    OtherStatus(u16),
    #[error("redirects ({0}): that is not followed")]
    Redirect(u16),
    #[error("answers with a Content-Encoding, which was not asked for")]
    Encoded,
    #[error("answers with what is not JSON")]
    NotJson,
    /// The host's places are all taken.
    #[error("is not asked: {0}")]
    Full(#[from] Full),
    /// No request can be sent at all.
    #[error("is not asked: {0}")]
    Setup(String),
}

impl From<BadBody> for Failure {
    fn from(body: BadBody) -> Self {
        match body {
            BadBody::TooLarge => Self::TooLarge,
            BadBody::BrokenOff(_) => Self::Broken,
        }
    }
}

impl Failure {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if let Some(own) = causes(error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return own.clone();
        }
        if let Some(cause) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            return Self::Untrusted(of_tls(cause));
        }
        if error.is_connect() {
            let io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
            return Self::Connect(of_connection(io.map(io::Error::kind)));
        }
        Self::Broken
    }

    /// Whether another attempt may help, and does no harm. A forbidden name is treated like a name
    /// that does not exist, so that the time of an answer does not reveal which names exist.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Forbidden)
    }

    /// Whether the circuit breaker counts this failure. An answer for one DID may be that DID's own
    /// fault, and the users of a shared host must not be able to switch it off for each other.
    pub(in crate::resolvers) const fn is_of_host(&self) -> bool {
        match self {
            Self::Forbidden
            | Self::Connect(_)
            | Self::Untrusted(_)
            | Self::Broken
            | Self::Unwell(_)
            | Self::Late(_) => true,
            Self::TooLarge
            | Self::OtherStatus(_)
            | Self::Redirect(_)
            | Self::Encoded
            | Self::NotJson
            | Self::Full(_)
            | Self::Setup(_) => false,
        }
    }
}

/// The error and all its sources, including what an [`io::Error`] wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

const fn of_tls(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "has a certificate of no authority that is trusted",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "has a certificate for another name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "has a certificate that has expired"
            }
            _ => "has a certificate that is not valid",
        },
        _ => "cannot be agreed with on TLS",
    }
}

const fn of_connection(kind: Option<io::ErrorKind>) -> &'static str {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "refuses connections",
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => "closes connections at once",
        _ => "cannot be connected to",
    }
}
