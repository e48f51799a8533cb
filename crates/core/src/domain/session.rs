//! A session: an agreed relation between a client DID and a server DID.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration};
use uuid::{Uuid, Variant};

use super::{Code, Did, Metadata, NewEvent, Timestamp};

/// 128 bits, written as a canonical UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

/// The text is not a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a UUID (8-4-4-4-12 hexadecimal digits) or 22 characters of base64url without padding (16 bytes)"
)]
pub struct InvalidSessionId;

impl SessionId {
    /// Reads a hyphenated UUID, or the 22-character base64url form of the same 16 bytes.
    ///
    /// # Errors
    /// [`InvalidSessionId`] when the text is neither.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        match text.len() {
            36 => Uuid::try_parse(text).map(Self).map_err(|_| InvalidSessionId),
            22 => {
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidSessionId)?;
                Uuid::from_slice(&bytes).map(Self).map_err(|_| InvalidSessionId)
            }
            _ => Err(InvalidSessionId),
        }
    }

    /// When the id was made, by the clock of its maker, where it says so: in a UUID of version 7
    /// (RFC 9562).
    #[must_use]
    pub fn made_at(&self) -> Option<Timestamp> {
        if self.0.get_version_num() != 7 || self.0.get_variant() != Variant::RFC4122 {
            return None;
        }
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A session key as it is stored: ciphertext, and the id of the key that sealed it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    pub key_id: String,
    pub ciphertext: Vec<u8>,
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    Ended,
    Expired,
    Idle,
    DidRevoked,
    Restored,
}

impl EndReason {
    pub const ALL: [Self; 5] =
        [Self::Ended, Self::Expired, Self::Idle, Self::DidRevoked, Self::Restored];

    /// The word in the database, in answers and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::DidRevoked => "did_revoked",
            Self::Restored => "restored",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// Whether time ended the session, rather than a call, a revocation or a restore.
    #[must_use]
    pub const fn is_expiry(self) -> bool {
        match self {
            Self::Expired | Self::Idle => true,
            Self::Ended | Self::DidRevoked | Self::Restored => false,
        }
    }
}

/// The code of a refusal because the session is over.
impl From<EndReason> for Code {
    fn from(reason: EndReason) -> Self {
        if reason.is_expiry() { Self::SessionExpired } else { Self::SessionEnded }
    }
}

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub at: Timestamp,
    pub reason: EndReason,
}

/// What a session is at one moment of the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Active,
    /// Past its end, whether or not the purge has already recorded an expiry.
    Over(End),
}

impl SessionState {
    /// The word in answers: `active`, `expired` or `ended`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Over(end) if end.reason.is_expiry() => "expired",
            Self::Over(_) => "ended",
        }
    }
}

/// A session as the database had it at `observed_at`, without its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub id: SessionId,
    pub client_did: Did,
    pub server_did: Did,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub deadline: Timestamp,
    pub last_activity: Timestamp,
    pub idle_timeout_seconds: Option<u32>,
    pub max_claims: Option<u64>,
    pub claims: u64,
    pub metadata: Metadata,
    pub user_agent: Option<String>,
    pub ip_address: Option<IpAddr>,
    /// As it was recorded: [`Self::state`] knows of an expiry before.
    pub end: Option<End>,
    /// Grows by one with every change that a caller asks for; the `ETag`.
    pub version: i64,
    /// The database's clock when this row was read.
    pub observed_at: Timestamp,
}

/// Activity is written down only when the last one is older than this, so that a busy session
/// is not rewritten with every claim; so it is also how much later than its timeout a session
/// counts as idle. Where there is no timeout, nothing is decided by it.
#[inline]
#[must_use]
pub fn activity_granularity(idle_timeout_seconds: Option<u32>) -> Duration {
    idle_timeout_seconds.map_or(Duration::minutes(1), |seconds| {
        Duration::milliseconds((i64::from(seconds) * 100).min(5_000))
    })
}

/// What decides whether a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub expires_at: Timestamp,
    pub last_activity: Timestamp,
    pub idle_timeout_seconds: Option<u32>,
    /// As it was recorded.
    pub end: Option<End>,
}

impl Lifetime {
    /// What the session is at `now`. A session that became overdue earlier for one reason than
    /// for another is over for the earlier one.
    #[inline]
    #[must_use]
    pub fn state(&self, now: Timestamp) -> SessionState {
        if let Some(end) = self.end {
            return SessionState::Over(end);
        }
        let idle_at = self.idle_timeout_seconds.map(|seconds| {
            self.last_activity
                + Duration::seconds(i64::from(seconds))
                + activity_granularity(Some(seconds))
        });
        let (at, reason) = match idle_at {
            Some(idle_at) if idle_at < self.expires_at => (idle_at, EndReason::Idle),
            _ => (self.expires_at, EndReason::Expired),
        };
        if at <= now { SessionState::Over(End { at, reason }) } else { SessionState::Active }
    }
}

impl Session {
    /// Whether `did` is its client or its server.
    #[must_use]
    pub fn has_party(&self, did: &Did) -> bool {
        self.client_did == *did || self.server_did == *did
    }

    /// What the session was at `observed_at`.
    #[must_use]
    pub fn state(&self) -> SessionState {
        let Self { expires_at, last_activity, idle_timeout_seconds, end, .. } = *self;
        Lifetime { expires_at, last_activity, idle_timeout_seconds, end }.state(self.observed_at)
    }
}

/// A session to open. The database's clock gives its times.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    /// Whether the caller chose the id, which may have been used before, rather than the service.
    pub id_is_chosen: bool,
    /// For how long an ended session is kept, so that its id is not used again.
    pub retention_seconds: u32,
    pub client_did: Did,
    pub server_did: Did,
    pub session_key: Option<SealedKey>,
    /// From now to `expires_at`.
    pub ttl_seconds: u32,
    /// From now to `deadline`; at least `ttl_seconds`.
    pub max_ttl_seconds: u32,
    pub idle_timeout_seconds: Option<u32>,
    pub max_claims: Option<u64>,
    pub metadata: Metadata,
    pub user_agent: Option<String>,
    pub ip_address: Option<IpAddr>,
}

/// What to change in a session; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct SessionPatch {
    /// Written with the change.
    pub audit: Option<NewEvent>,
    pub metadata: Option<Metadata>,
    pub session_key: Option<SealedKey>,
    /// From now; clamped to the deadline.
    pub ttl_seconds: Option<u32>,
    /// Change only if the session still has this version.
    pub expected_version: Option<i64>,
}

/// What came of opening a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    Created(Session),
    /// The id is taken, or was until less than the retention ago.
    Exists,
    /// This party is revoked.
    Revoked(Did),
    /// The caller chose an id that may have been used in the past that a restored database lost.
    BeforeRestore,
    /// The caller chose an id that says that it was made later than now.
    Ahead,
}

/// What came of changing a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    Done(Session),
    NotFound,
    /// The session had ended or expired; nothing changed.
    Over(Session),
    /// The session does not have the expected version; nothing changed.
    VersionMismatch(Session),
}

/// Which sessions to end: those of this client, of this server, or of both together.
/// At least one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    pub client_did: Option<Did>,
    pub server_did: Option<Did>,
}

/// What a list of sessions is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    pub client_did: Option<Did>,
    pub server_did: Option<Did>,
    pub state: StateFilter,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StateFilter {
    #[default]
    Active,
    Ended,
    Expired,
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_both_forms_of_the_same_bytes() {
        let id = SessionId(Uuid::from_u128(0x0189_f7e4_7a3b_7000_8000_0000_0000_00fb));
        let short = URL_SAFE_NO_PAD.encode(id.0.as_bytes());
        assert_eq!(short.len(), 22);
        assert_eq!(SessionId::parse(&short), Ok(id));
        assert_eq!(SessionId::parse(&id.to_string()), Ok(id));
        assert_eq!(SessionId::parse(&id.to_string().to_uppercase()), Ok(id));
    }

    #[test]
    fn an_id_refuses_other_forms() {
        let simple = Uuid::nil().simple().to_string();
        for text in [
            "",
            "x",
            simple.as_str(),
            "{0189f7e4-7a3b-7000-8000-000000000000}",
            "AAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAAA+",
        ] {
            assert_eq!(SessionId::parse(text), Err(InvalidSessionId), "{text:?}");
        }
    }

    #[test]
    fn activity_is_recorded_to_a_tenth_of_the_timeout_and_without_one_to_a_minute() {
        assert_eq!(activity_granularity(Some(10)), Duration::seconds(1));
        assert_eq!(activity_granularity(Some(49)), Duration::milliseconds(4_900));
        assert_eq!(activity_granularity(Some(600)), Duration::seconds(5));
        assert_eq!(activity_granularity(None), Duration::minutes(1));
    }
}
