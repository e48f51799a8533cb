//! The processes that serve, as operators see them.

use uuid::Uuid;

use super::Timestamp;

/// A process that serves, or has served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: Uuid,
    /// The address of its API.
    pub name: String,
    pub host: String,
    pub version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub state: InstanceState,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It serves.
    Active,
    /// It was stopped in order.
    Ended,
    /// It said nothing for so long that it is taken for gone: killed, or cut off from the database.
    Terminated,
    /// Its start failed.
    Failed,
}

impl InstanceState {
    pub const ALL: [Self; 4] = [Self::Active, Self::Ended, Self::Terminated, Self::Failed];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        }
    }
}
