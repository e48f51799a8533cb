//! Why a connection could not be opened, and when a try counts as failed.

use std::time::Duration;

use super::assumptions::Unmet;
use crate::storage::StoreError;
use crate::storage::arriving::Arriving;

/// For TCP, TLS, log-in and set-up together, for each part of the check that follows, and for the commit
/// that comes before a long change.
pub(crate) const SETUP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a connection could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct ConnectError {
    reason: String,
    obstacle: Obstacle,
}

/// What must happen before a connection can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The server answers again: that may be in a moment.
    Passing,
    /// The server takes writes again, or another one does, at this address.
    ReadOnly(&'static str),
    /// An operator changes a certificate, a password, …
    Lasting,
    /// An operator changes the database or its role.
    Unsuitable,
    /// The database is recovered, or the address leads to the one that was served.
    WentBack,
}

impl ConnectError {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), obstacle: Obstacle::Passing }
    }

    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), obstacle: Obstacle::Lasting }
    }

    /// The role of the connection lacks these privileges.
    pub(crate) fn unsuitable(lacking: &str) -> Self {
        let reason = format!("the role lacks {lacking}: GRANT it");
        Self { reason, obstacle: Obstacle::Unsuitable }
    }

    /// The database has only a part of the rows of another one.
    pub(crate) fn arriving(arriving: &Arriving) -> Self {
        Self { reason: arriving.to_string(), obstacle: Obstacle::Unsuitable }
    }

    pub(crate) fn went_back(reason: &str) -> Self {
        Self { reason: reason.into(), obstacle: Obstacle::WentBack }
    }

    pub(super) fn read_only(reason: &'static str) -> Self {
        Self { reason: reason.into(), obstacle: Obstacle::ReadOnly(reason) }
    }

    /// Whether it may pass by itself.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self.obstacle, Obstacle::Passing | Obstacle::ReadOnly(_))
    }

    /// What may be told to those who may not see the reason.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self.obstacle {
            Obstacle::Passing => None,
            Obstacle::ReadOnly(why) => Some(why),
            Obstacle::Lasting => Some("the database refuses the connection"),
            Obstacle::Unsuitable => {
                Some("the database cannot be used as it is: `onceguard doctor` says why")
            }
            Obstacle::WentBack => Some("the database went back in time: the log says what to do"),
        }
    }

    /// The connection is closed, or leads where the database is no more.
    pub(super) fn outdated() -> Self {
        Self::passing("the connection was closed")
    }

    /// The runtime that connections are driven by is ending.
    pub(super) fn aborted(error: &tokio::task::JoinError) -> Self {
        Self::lasting(format!("connecting was given up: {error}"))
    }
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        match error.obstacle {
            Obstacle::Unsuitable => Self::Unsuitable(error.reason),
            Obstacle::WentBack => Self::WentBack(error.reason),
            Obstacle::Passing | Obstacle::ReadOnly(_) | Obstacle::Lasting => {
                Self::Unavailable(error.reason)
            }
        }
    }
}

impl From<Unmet> for ConnectError {
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Lost(error) => {
                Self::passing(format!("the connection could not be set up: {error}"))
            }
            Unmet::ReadOnly(why) => Self::read_only(why),
            Unmet::Unsuitable(reason) => Self { reason, obstacle: Obstacle::Unsuitable },
        }
    }
}
