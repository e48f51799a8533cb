"""Namespaces: scopes for ids that are used once and are no DID's nonces, such as a webhook's."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from .. import errors
from ..transport import AsyncTransport, Plan, Request, Transport, exchange
from ..types import Namespace, NamespaceNonce, UsedNonce
from .claims import fresh_key, timed_fields


def _path(namespace: str, *more: str) -> str:
    return "/".join(["/v1/namespaces", *(quote(part, safe="") for part in (namespace, *more))])


def claim_in_namespace(
    namespace: str,
    nonce: str | bytes,
    expires_at: datetime,
    issued_at: datetime | None,
    idempotency_key: str | None,
    retries: int,
) -> Plan[NamespaceNonce]:
    request = Request(
        "POST",
        _path(namespace, "nonces"),
        body=timed_fields(nonce, expires_at, issued_at),
        headers=fresh_key(idempotency_key),
        repeatable=True,
    )
    return (yield from exchange(request, retries)).read(NamespaceNonce)


def read_namespace(namespace: str, retries: int) -> Plan[Namespace]:
    request = Request("GET", _path(namespace), repeatable=True)
    return (yield from exchange(request, retries)).read(Namespace)


def used_in_namespace(namespace: str, nonce: str, retries: int) -> Plan[UsedNonce | None]:
    request = Request("GET", _path(namespace, "nonces", nonce), repeatable=True)
    try:
        return (yield from exchange(request, retries)).read(UsedNonce)
    except errors.NotFound as error:
        if error.code != "nonce_unused":
            raise
        return None


class Namespaces:
    """``client.namespaces``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def claim(
        self,
        namespace: str,
        nonce: str | bytes,
        *,
        expires_at: datetime,
        issued_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> NamespaceNonce:
        """Claims an id. Act on its message only when this returns.

        A lost answer is repeated under the same key, so it never reads as a replay.

        >>> client.namespaces.claim("webhooks", webhook_id, expires_at=in_an_hour)

        :param expires_at: when the id stops being acceptable, at most a day ahead.
        :param issued_at: when the id was issued, by the word of the message that carries it.
        """
        retries = self._transport.retries
        plan = claim_in_namespace(namespace, nonce, expires_at, issued_at, idempotency_key, retries)
        return self._transport.run(plan)

    def read(self, namespace: str) -> Namespace:
        """How much a namespace holds."""
        return self._transport.run(read_namespace(namespace, self._transport.retries))

    def used(self, namespace: str, nonce: str) -> UsedNonce | None:
        """Whether an id was used; None if not. Never act on None: only a claim is a licence."""
        return self._transport.run(used_in_namespace(namespace, nonce, self._transport.retries))


class AsyncNamespaces:
    """``client.namespaces`` of the asyncio client; :class:`Namespaces` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def claim(
        self,
        namespace: str,
        nonce: str | bytes,
        *,
        expires_at: datetime,
        issued_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> NamespaceNonce:
        """Claims an id. Act on its message only when this returns."""
        retries = self._transport.retries
        plan = claim_in_namespace(namespace, nonce, expires_at, issued_at, idempotency_key, retries)
        return await self._transport.run(plan)

    async def read(self, namespace: str) -> Namespace:
        """How much a namespace holds."""
        return await self._transport.run(read_namespace(namespace, self._transport.retries))

    async def used(self, namespace: str, nonce: str) -> UsedNonce | None:
        """Whether an id was used; None if not. Never act on None: only a claim is a licence."""
        plan = used_in_namespace(namespace, nonce, self._transport.retries)
        return await self._transport.run(plan)
