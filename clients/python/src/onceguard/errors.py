"""What can go wrong, one class for each kind. A message says what was wrong, and what to do; it
never has a token or a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .codes import Code
from .wire import read_time


@dataclass(frozen=True)
class FieldError:
    """One mistake in a request: where (a JSON pointer, or a parameter's name), and what."""

    pointer: str
    detail: str


class OnceguardError(Exception):
    """The base of all errors here.

    >>> try:
    ...     client.sessions.claim(session.id, nonce)
    ... except NonceReplayed:
    ...     refuse_the_message()
    ... except OnceguardError as error:
    ...     log(error.code, error.request_id)
    """

    #: What to do, in a sentence.
    hint = ""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} {self.hint}".strip())
        #: The stable word for programs, such as ``nonce_replayed``; None when there was no answer.
        self.code: Code | str | None = None
        #: The HTTP status; None when there was no answer.
        self.status: int | None = None
        #: The service's log has the call under this id.
        self.request_id: str | None = None
        #: In how many seconds another try is worth it; None when waiting does not help.
        self.retry_after: float | None = None
        #: Each mistake, with :class:`InvalidRequest`.
        self.errors: tuple[FieldError, ...] = ()
        #: When the nonce was accepted, with :class:`NonceReplayed`.
        self.first_used_at: datetime | None = None
        #: The key under which a call was sent: the same call with it learns the true outcome.
        self.idempotency_key: str | None = None
        #: How often the call was sent.
        self.attempts = 0
        #: The whole answer (RFC 9457), as the service wrote it.
        self.problem: Mapping[str, Any] = {}


class InvalidRequest(OnceguardError):
    """The request is not valid; ``errors`` names each mistake. Nothing was changed."""


class Unauthenticated(OnceguardError):
    """onceguard does not know the caller."""

    hint = "Make a token with `onceguard token create`, and give it as `token`."


class Forbidden(OnceguardError):
    """The caller may not do this."""


class DidRevoked(OnceguardError):
    """A DID of this call is revoked, for good. Use another DID."""


class NotFound(OnceguardError):
    """There is no such session, DID, nonce, record or path."""


class NonceReplayed(OnceguardError):
    """The nonce was used before: the message that carries it is a replay. Refuse it."""


class IssuedBeforeRestore(OnceguardError):
    """The nonce may have been used before the database was restored, so that it is not accepted:
    refuse the message, and ask for a new one. With ``issued_at``, only what is older is refused."""


class SessionExists(OnceguardError):
    """The session's id is taken, or may have been. Leave ``id`` out, and one is made."""


class SessionEnded(OnceguardError):
    """The session has ended. Open a new one."""


class SessionExpired(OnceguardError):
    """The session has expired. Open a new one."""


class PreconditionFailed(OnceguardError):
    """The session or record has changed since it was read. Read it again, and repeat the
    change."""


class CursorExpired(OnceguardError):
    """What came after the cursor is no longer known as a whole. Records: read everything anew, and
    drop what is not in it. Events: begin without ``since``; some are gone."""


class SignatureRefused(OnceguardError):
    """A signed request did not pass. ``code`` names the check that it failed."""


class SignatureReplayed(SignatureRefused):
    """The signed request passed before: this one is a copy."""


class ClaimQuotaReached(OnceguardError):
    """The session, the signer or the namespace has no claims left. Nothing is evicted to make
    room."""


class RecordQuotaReached(OnceguardError):
    """There is no room for the record. Waiting does not help: delete records."""


class RateLimited(OnceguardError):
    """Too many calls of this kind. Wait for ``retry_after`` seconds."""


class Unavailable(OnceguardError):
    """onceguard cannot answer safely now. Treat a claim as not accepted, a request as refused."""


class OutcomeUnknown(Unavailable):
    """The change may have been made. Repeat a claim or a verdict with the same
    ``idempotency_key``."""


class NoAnswer(Unavailable):
    """No answer came: the connection failed, broke, or was too slow. The change may have been
    made. Repeat a claim or a verdict with the same ``idempotency_key``."""


class UnexpectedAnswer(OnceguardError):
    """The answer is not one that this client knows. Is ``base_url`` onceguard's?"""


class CannotSign(OnceguardError, ValueError):
    """The key cannot be read, the request lacks what a signature must cover, or what
    ``Accept-Signature`` asks for cannot be signed."""


_BY_CODE: dict[str, type[OnceguardError]] = {
    "did_revoked": DidRevoked,
    "nonce_replayed": NonceReplayed,
    "issued_before_restore": IssuedBeforeRestore,
    "session_exists": SessionExists,
    "session_id_before_restore": SessionExists,
    "session_ended": SessionEnded,
    "session_expired": SessionExpired,
    "cursor_expired": CursorExpired,
    "signature_replayed": SignatureReplayed,
    "signature_key_unavailable": Unavailable,
    "signature_revocation_stale": Unavailable,
    "claim_quota_reached": ClaimQuotaReached,
    "record_quota_reached": RecordQuotaReached,
    "outcome_unknown": OutcomeUnknown,
}

_BY_STATUS: dict[int, type[OnceguardError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: NotFound,
    410: SessionEnded,
    412: PreconditionFailed,
    413: InvalidRequest,
    415: InvalidRequest,
    421: InvalidRequest,
    422: InvalidRequest,
    428: InvalidRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def _kind(status: int, code: str | None) -> type[OnceguardError]:
    """A code that is newer than this client is treated by its status."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code is not None and code.startswith("signature_"):
        return SignatureRefused
    if code is None and status < 500 and status != 429:
        return UnexpectedAnswer
    return _BY_STATUS.get(status, UnexpectedAnswer)


def of_answer(status: int, problem: Mapping[str, Any], retry_after: float | None) -> OnceguardError:
    """The error that an answer stands for; an answer of a proxy is no problem with a code."""
    code = problem.get("code")
    detail = problem.get("detail") or f"onceguard, or a proxy before it, answered {status}."
    words = [str(detail).rstrip(".") + "."]
    errors = tuple(FieldError(e["pointer"], e["detail"]) for e in problem.get("errors", ()))
    if len(errors) > 1:
        words += [f"{error.pointer}: {error.detail}." for error in errors]
    if code is not None:
        words.append(f"({code}, request {problem.get('request_id')})")
    error = _kind(status, code)(" ".join(words))
    error.code, error.status, error.retry_after, error.errors = code, status, retry_after, errors
    error.request_id = problem.get("request_id")
    first = problem.get("first_used_at")
    error.first_used_at = read_time(first) if first else None
    error.problem = problem
    return error


def refused(error: OnceguardError) -> SignatureRefused:
    """The same error as the refusal of a judged request, whose session ended, say."""
    refusal = SignatureRefused(str(error))
    refusal.__dict__.update(error.__dict__)
    return refusal
