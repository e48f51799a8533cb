"""What onceguard answers with, and what claims are made of. Field names are those of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

SessionState = Literal["active", "ended", "expired"]
EndReason = Literal["ended", "expired", "idle", "did_revoked", "restored"]
KeyType = Literal["Ed25519", "Secp256k1", "P256"]
Algorithm = Literal["ed25519", "ecdsa-p256-sha256", "ES256K", "es256k"]
Backend = Literal["sqlite", "postgresql"]
InstanceState = Literal["active", "ended", "terminated", "failed"]
Outcome = Literal[
    "accepted",
    "replayed",
    "session_not_found",
    "session_ended",
    "session_expired",
    "claim_quota_reached",
    "expired",
    "issued_before_restore",
    "did_revoked",
]


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session, without its key."""

    id: str
    client_did: str
    server_did: str
    state: SessionState
    created_at: datetime
    expires_at: datetime
    #: No change moves ``expires_at`` past it.
    deadline: datetime
    last_activity: datetime
    idle_timeout_seconds: int | None
    max_claims: int | None
    #: Exact where ``max_claims`` is set; elsewhere it moves with activity.
    claims: int
    metadata: Mapping[str, Any]
    user_agent: str | None
    ip_address: str | None
    ended_at: datetime | None
    end_reason: EndReason | None
    #: For ``if_match``; None in lists.
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class AcceptedNonce:
    """A nonce that was accepted: act on its message."""

    nonce: str
    session_id: str
    used_at: datetime
    #: Until then at least, it stays spent.
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class UsedNonce:
    """A nonce that was used."""

    nonce: str
    used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class NamespaceNonce:
    """An id that was accepted in a namespace: act on its message."""

    namespace: str
    used_at: datetime
    #: Until then at least, it stays spent.
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """What a namespace holds."""

    namespace: str
    #: Ids that are kept; those that expired are counted until the purge.
    live: int
    #: The most of them.
    quota: int


@dataclass(frozen=True)
class SessionClaim:
    """The claim of a nonce in a session."""

    session_id: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class SignerClaim:
    """The claim of a nonce by a signer, whose message stops being acceptable at ``expires_at``."""

    signer: str
    nonce: str
    expires_at: datetime
    #: When the signer made the message, by the message's own, authenticated word.
    issued_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class NamespaceClaim:
    """The claim of an id that is used once and is no DID's nonce: a token's, or a webhook's."""

    namespace: str
    #: Text of visible ASCII characters, or bytes of any kind.
    nonce: str | bytes
    #: When the id stops being acceptable, at most a day ahead.
    expires_at: datetime
    #: When the id was issued, by the word of the message that carries it.
    issued_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The outcome of one claim of many."""

    outcome: Outcome
    used_at: datetime | None
    first_used_at: datetime | None

    @property
    def accepted(self) -> bool:
        """Whether to act on the message."""
        return self.outcome == "accepted"


@dataclass(frozen=True, kw_only=True)
class VerificationMethod:
    """A key of a DID."""

    id: str
    key_type: KeyType
    public_key: bytes
    #: Whether the key may sign.
    authentication: bool


@dataclass(frozen=True, kw_only=True)
class UnusableMethod:
    """What a DID's document has that cannot be used, and why."""

    id: str | None
    pointer: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Did:
    """What is known of a DID."""

    did: str
    key_type: KeyType | None
    #: Raw: 32 bytes for Ed25519, 33 (compressed) for the others.
    public_key: bytes | None
    #: None in lists.
    verification_methods: tuple[VerificationMethod, ...] | None
    #: None in lists.
    unusable_methods: tuple[UnusableMethod, ...] | None
    owner_address: str | None
    revoked: bool
    deactivated: bool
    source: str | None
    fetched_at: datetime | None
    stale_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class FoundDid(Did):
    """A stored DID that a search found."""

    kind: Literal["did"]
    #: The DID.
    id: str


@dataclass(frozen=True, kw_only=True)
class FoundSession(Session):
    """A session that a search found."""

    kind: Literal["session"]


#: What a search found; ``kind`` says which.
Found = FoundDid | FoundSession


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """A revocation, which is final."""

    did: str
    revoked_at: datetime
    sessions_ended: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A signed request that passed every check. Its nonce is spent."""

    #: Who signed.
    did: str
    keyid: str
    alg: Algorithm
    profile: str
    created: datetime
    expires: datetime
    nonce: str
    #: What the signature covers. Nothing else of the request is vouched for.
    covered: tuple[str, ...]
    session_id: str | None


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What an erasure has removed."""

    sessions: int
    records: int
    #: Events of the audit log, which name a digest of the DID from now on.
    events: int


@dataclass(frozen=True, kw_only=True)
class StatsSessions:
    active: int
    ended: int


@dataclass(frozen=True, kw_only=True)
class StatsDids:
    stored: int
    revoked: int


@dataclass(frozen=True, kw_only=True)
class StatsAgents:
    records: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StatsKind:
    kind: str
    records: int


@dataclass(frozen=True, kw_only=True)
class StatsRecords:
    owners: int
    records: int
    bytes: int
    agents: StatsAgents
    top_kinds: tuple[StatsKind, ...]


@dataclass(frozen=True, kw_only=True)
class StatsWebhooks:
    active: int
    paused: int
    disabled: int
    #: Events that are sent, or sent again.
    pending: int
    #: Events that were given up.
    dead: int
    oldest_pending_seconds: int


@dataclass(frozen=True, kw_only=True)
class StatsTable:
    name: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StatsDatabase:
    bytes: int
    recovered_at: datetime | None
    tables: tuple[StatsTable, ...]


@dataclass(frozen=True, kw_only=True)
class StatsClient:
    client_did: str
    active_sessions: int


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The service and its database, at a glance."""

    version: str
    backend: Backend
    started_at: datetime
    uptime_seconds: int
    sessions: StatsSessions
    live_nonces: int
    dids: StatsDids
    records: StatsRecords
    webhooks: StatsWebhooks
    database: StatsDatabase
    last_backup_at: datetime | None
    top_clients: tuple[StatsClient, ...]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A process of onceguard."""

    id: str
    #: The address of its API.
    name: str
    host: str
    version: str
    started_at: datetime
    heartbeat_at: datetime
    #: When it was stopped, or its start failed.
    ended_at: datetime | None
    #: ``terminated``: its last heartbeat is older than a minute.
    state: InstanceState
