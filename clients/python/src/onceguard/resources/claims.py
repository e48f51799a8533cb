"""Many claims at once, and the key under which a claim is repeated safely."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..transport import AsyncTransport, Plan, Request, Transport, exchange, read
from ..types import ClaimResult, NamespaceClaim, SessionClaim, SignerClaim
from ..wire import write_bytes, write_time

Claim = SessionClaim | SignerClaim | NamespaceClaim


def fresh_key(idempotency_key: str | None) -> dict[str, str]:
    """A key of our own when the caller has none: never anything of the message, whose copy would
    be accepted with it."""
    return {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(16)}


def timed_fields(
    nonce: str | bytes, expires_at: datetime, issued_at: datetime | None
) -> dict[str, Any]:
    """A nonce that is claimed until a time; bytes have a field of their own."""
    named = {"nonce": nonce} if isinstance(nonce, str) else {"nonce_base64": write_bytes(nonce)}
    issued = {} if issued_at is None else {"issued_at": write_time(issued_at)}
    return {**named, "expires_at": write_time(expires_at), **issued}


def _fields(claim: Claim) -> dict[str, Any]:
    if isinstance(claim, SessionClaim):
        return {"session_id": claim.session_id, "nonce": claim.nonce}
    timed = timed_fields(claim.nonce, claim.expires_at, claim.issued_at)
    if isinstance(claim, SignerClaim):
        return {"signer": claim.signer, **timed}
    return {"namespace": claim.namespace, **timed}


def create_claims(
    claims: Iterable[Claim], idempotency_key: str | None, retries: int
) -> Plan[tuple[ClaimResult, ...]]:
    request = Request(
        "POST",
        "/v1/claims",
        body={"claims": [_fields(claim) for claim in claims]},
        headers=fresh_key(idempotency_key),
        repeatable=True,
    )
    results = (yield from exchange(request, retries)).member("results")
    return tuple(read(ClaimResult, result) for result in results)


class Claims:
    """``client.claims``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        claims: Iterable[Claim],
        *,
        idempotency_key: str | None = None,
    ) -> tuple[ClaimResult, ...]:
        """Makes up to 1000 claims, each decided on its own; the outcomes are in their order.

        >>> [one, two] = client.claims.create(
        ...     [SessionClaim(session.id, "b64d"), SessionClaim(session.id, "b64d")]
        ... )
        >>> one.outcome, two.outcome
        ('accepted', 'replayed')
        """
        return self._transport.run(create_claims(claims, idempotency_key, self._transport.retries))


class AsyncClaims:
    """``client.claims`` of the asyncio client; :class:`Claims` describes the call."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        claims: Iterable[Claim],
        *,
        idempotency_key: str | None = None,
    ) -> tuple[ClaimResult, ...]:
        """Makes up to 1000 claims, each decided on its own; the outcomes are in their order."""
        plan = create_claims(claims, idempotency_key, self._transport.retries)
        return await self._transport.run(plan)
