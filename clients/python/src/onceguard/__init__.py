"""onceguard: is this signed request from who it says, fresh, and not a replay?

>>> from onceguard import Onceguard
>>> client = Onceguard(base_url="http://127.0.0.1:8080", token=token)
"""

from .auth import HttpxSignature
from .client import AsyncOnceguard, Onceguard
from .codes import Code
from .errors import (
    CannotSign,
    ClaimQuotaReached,
    DidRevoked,
    FieldError,
    Forbidden,
    InvalidRequest,
    NoAnswer,
    NonceReplayed,
    NotFound,
    OnceguardError,
    OutcomeUnknown,
    PreconditionFailed,
    RateLimited,
    SessionEnded,
    SessionExists,
    SessionExpired,
    SignatureRefused,
    SignatureReplayed,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from .keys import Key
from .signatures import sign_request
from .types import (
    AcceptedNonce,
    ClaimResult,
    Did,
    Revocation,
    Session,
    SessionClaim,
    SignerClaim,
    Stats,
    UnusableMethod,
    UsedNonce,
    Verdict,
    VerificationMethod,
)

__all__ = [
    "AcceptedNonce",
    "AsyncOnceguard",
    "CannotSign",
    "ClaimQuotaReached",
    "ClaimResult",
    "Code",
    "Did",
    "DidRevoked",
    "FieldError",
    "Forbidden",
    "HttpxSignature",
    "InvalidRequest",
    "Key",
    "NoAnswer",
    "NonceReplayed",
    "NotFound",
    "Onceguard",
    "OnceguardError",
    "OutcomeUnknown",
    "PreconditionFailed",
    "RateLimited",
    "Revocation",
    "Session",
    "SessionClaim",
    "SessionEnded",
    "SessionExists",
    "SessionExpired",
    "SignatureRefused",
    "SignatureReplayed",
    "SignerClaim",
    "Stats",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "UnusableMethod",
    "UsedNonce",
    "Verdict",
    "VerificationMethod",
    "sign_request",
]
