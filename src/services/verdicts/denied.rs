//! Why a request does not pass.

use super::super::ServiceError;
use crate::domain::{Code, Did, End, Refusal, Timestamp};
use crate::metrics::Metrics;
use crate::signatures::{Profile, Refused};

/// The first check that a request did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("there is no profile of this name: {0}")]
    UnknownProfile(String),
    /// The checks that need nothing but the request and the key.
    #[error(transparent)]
    Signature(#[from] Refused),
    #[error("the setting agents.allow does not let {0} call")]
    NotAllowed(Did),
    #[error("{0}")]
    KeyUnknown(String),
    #[error("{0} could not be read from where it lives")]
    KeyUnavailable(Did),
    #[error("the DID {0} is revoked")]
    KeyRevoked(Did),
    #[error("whether {0} is revoked could not be read from where it lives for too long")]
    RevocationStale(Did),
    #[error("the signer holds as many live nonces as it may; some expire soon")]
    QuotaReached,
    #[error("there is no such session")]
    SessionNotFound,
    #[error("the session {}", if .0.reason.is_expiry() { "has expired" } else { "was ended" })]
    SessionOver(End),
    #[error("the session has used all of its max_claims")]
    SessionUsedUp,
    #[error("the signer is not a party to the session")]
    NotAParty,
    #[error("the nonce was used before: this message is a replay")]
    Replayed { first_used_at: Timestamp },
    /// By the database's clock, though not by ours.
    #[error("the signature has expired by the database's clock")]
    ExpiredMeanwhile,
    #[error("the signature was created in the future by the database's clock")]
    CreatedAhead,
    #[error(
        "the signature was created before the database was restored, which may have forgotten that \
         it accepted it"
    )]
    BeforeRestore,
}

impl From<&Denied> for Code {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::UnknownProfile(_) => Self::ValidationFailed,
            Denied::Signature(refused) => refused.into(),
            Denied::NotAllowed(_) => Self::Forbidden,
            Denied::KeyUnknown(_) => Self::SignatureKeyUnknown,
            Denied::KeyUnavailable(_) => Self::SignatureKeyUnavailable,
            Denied::KeyRevoked(_) => Self::SignatureKeyRevoked,
            Denied::RevocationStale(_) => Self::SignatureRevocationStale,
            Denied::QuotaReached | Denied::SessionUsedUp => Self::ClaimQuotaReached,
            Denied::SessionNotFound => Self::SessionNotFound,
            Denied::SessionOver(end) => end.reason.into(),
            Denied::NotAParty => Self::SignatureNotAParty,
            Denied::Replayed { .. } => Self::SignatureReplayed,
            Denied::ExpiredMeanwhile | Denied::CreatedAhead => Self::SignatureWindowInvalid,
            Denied::BeforeRestore => Self::SignatureBeforeRestore,
        }
    }
}

impl Denied {
    /// Why the claim of a signer's nonce was refused.
    pub(super) fn claim(refusal: Refusal, signer: &Did) -> Self {
        match refusal {
            Refusal::Expired => Self::ExpiredMeanwhile,
            Refusal::IssuedAhead => Self::CreatedAhead,
            Refusal::IssuedBeforeRestore => Self::BeforeRestore,
            Refusal::DidRevoked => Self::KeyRevoked(signer.clone()),
            Refusal::ClaimQuotaReached => Self::QuotaReached,
            Refusal::SessionUsedUp => Self::SessionUsedUp,
            Refusal::SessionNotFound => Self::SessionNotFound,
            Refusal::NotAParty => Self::NotAParty,
            Refusal::SessionOver(end) => Self::SessionOver(end),
        }
    }
}

/// Why judging stops: at a check, or because it cannot be said.
pub(super) enum Stop {
    Denied(Denied),
    Failed(ServiceError),
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Denied(refused.into())
    }
}

impl From<ServiceError> for Stop {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl Stop {
    /// Counts the check that failed; what cannot be said is no verdict.
    pub(super) fn count(&self, metrics: &Metrics, profile: &Profile) {
        if let Self::Denied(denied) = self {
            metrics.verdict(Code::from(denied).as_str(), &profile.name);
        }
    }

    /// What a caller is told: the check that failed is an answer, and no error.
    pub(super) fn told<T>(judged: Result<T, Self>) -> Result<Result<T, Denied>, ServiceError> {
        match judged {
            Ok(passed) => Ok(Ok(passed)),
            Err(Self::Denied(denied)) => Ok(Err(denied)),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}
