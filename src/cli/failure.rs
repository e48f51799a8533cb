//! How a command fails: a text for a person, and an exit code for a script.

use std::process::ExitCode;

use crate::config::InvalidConfig;
use crate::jobs::JobError;
use crate::services::ServiceError;
use crate::storage::StoreError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command was tried, and failed.
    #[error("{0}")]
    Failed(String),
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Trying again later may help.
    #[error("{0}")]
    Unavailable(String),
    /// The command would do harm, or is not possible in this state. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Standard output was closed or cannot be written to.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// The exit codes, as `--help` documents them.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Unavailable(_) => 3,
            Self::Refused(_) => 4,
        })
    }

    /// Whether the reader of standard output has closed it, as in `onceguard token list | head -1`.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl From<prometheus::Error> for Failure {
    fn from(error: prometheus::Error) -> Self {
        Self::Failed(format!("metrics: {error}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Locked(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Unsuitable(_) | StoreError::WentBack(_) => Self::Refused(error.to_string()),
            StoreError::OutcomeUnknown(_)
            | StoreError::Migration(_)
            | StoreError::Unexpected(_)
            | StoreError::InvalidCursor(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Store(error) => error.into(),
            ServiceError::Overloaded
            | ServiceError::Upstream(_)
            | ServiceError::NoPlace { .. }
            | ServiceError::RateLimited => Self::Unavailable(error.to_string()),
            ServiceError::InvalidCursor(_) | ServiceError::Internal(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Service(error) => error.into(),
            JobError::Clock(_) => Self::Refused(error.to_string()),
            JobError::LeaseLost | JobError::Stopped | JobError::Archive(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}
