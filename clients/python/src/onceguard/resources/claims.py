"""Many claims at once, and the key under which a claim is repeated safely."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from ..transport import AsyncTransport, Plan, Request, Transport, exchange, read
from ..types import ClaimResult, SessionClaim, SignerClaim
from ..wire import without_none, write_time


def claim_headers(idempotency_key: str | None) -> dict[str, str]:
    """A key of our own when the caller has none: never anything of the message, whose copy would
    be accepted with it."""
    return {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(16)}


def _fields(claim: SessionClaim | SignerClaim) -> dict[str, Any]:
    if isinstance(claim, SessionClaim):
        return {"session_id": claim.session_id, "nonce": claim.nonce}
    issued_at = None if claim.issued_at is None else write_time(claim.issued_at)
    fields = {"signer": claim.signer, "nonce": claim.nonce, "issued_at": issued_at}
    return without_none({**fields, "expires_at": write_time(claim.expires_at)})


def create_claims(
    claims: Iterable[SessionClaim | SignerClaim], idempotency_key: str | None, retries: int
) -> Plan[tuple[ClaimResult, ...]]:
    request = Request(
        "POST",
        "/v1/claims",
        body={"claims": [_fields(claim) for claim in claims]},
        headers=claim_headers(idempotency_key),
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
        claims: Iterable[SessionClaim | SignerClaim],
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
        claims: Iterable[SessionClaim | SignerClaim],
        *,
        idempotency_key: str | None = None,
    ) -> tuple[ClaimResult, ...]:
        """Makes up to 1000 claims, each decided on its own; the outcomes are in their order."""
        plan = create_claims(claims, idempotency_key, self._transport.retries)
        return await self._transport.run(plan)
