//! Why there is no answer, in words of our own: what a host says of itself is not repeated.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;

use super::names::NotDialled;
use crate::resolvers::body::BadBody;

/// Why a host gave no answer that can be used. The text goes on from the host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::resolvers) enum Failure {
    /// It was not dialled.
    #[error("has no address that may be dialled")]
    Forbidden,
    /// There is no connection to it.
    #[error("{0}")]
    Connect(&'static str),
    /// It is not the host that it should be.
    #[error("{0}")]
    Untrusted(&'static str),
    /// The connection broke, or what came over it is not HTTP.
    #[error("broke off its answer")]
    Broken,
    #[error("answers with too many bytes")]
    TooLarge,
    #[error("answers {0}")]
    Status(u16),
    #[error("does not answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// Nobody can be asked.
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
        if let Some(cause) = causes(error).find_map(|cause| cause.downcast_ref::<NotDialled>()) {
            return match cause {
                NotDialled::Forbidden => Self::Forbidden,
                NotDialled::NoAddress => Self::Connect("has no address"),
                NotDialled::Busy => Self::Connect("waits for other names to be looked up"),
            };
        }
        if let Some(cause) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            return Self::Untrusted(of_tls(cause));
        }
        if error.is_dns() {
            return Self::Connect("cannot be found by its name");
        }
        if error.is_connect() {
            let io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
            return Self::Connect(of_connection(io.map(io::Error::kind)));
        }
        Self::Broken
    }

    /// Whether to try again may help, and can do no harm.
    pub(super) const fn is_connect(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// The error and all that is below it, also what an [`io::Error`] wraps.
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
