"""The keys of DIDs, and their revocation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from urllib.parse import quote

from ..transport import AsyncTransport, Plan, Request, Transport, exchange, read
from ..types import Did, Erased, KeyType, Revocation
from ..wire import without_none, write_bytes
from .pages import Listing, filters


def _path(did: str, *more: str) -> str:
    return "/".join(["/v1/dids", quote(did, safe=""), *more])


def read_did(did: str, max_age: int | None, retries: int) -> Plan[Did]:
    request = Request("GET", _path(did), filters(max_age=max_age), repeatable=True)
    return (yield from exchange(request, retries)).read(Did)


def store_did(
    did: str, public_key: bytes, key_type: KeyType, owner_address: str | None, retries: int
) -> Plan[Did]:
    fields = {"public_key": write_bytes(public_key), "key_type": key_type}
    body = without_none({**fields, "owner_address": owner_address})
    return (yield from exchange(Request("PUT", _path(did), body=body), retries)).read(Did)


def forget_did(did: str, retries: int) -> Plan[None]:
    yield from exchange(Request("DELETE", _path(did)), retries)


def refresh_did(did: str, retries: int) -> Plan[Did]:
    return (yield from exchange(Request("POST", _path(did, "refresh")), retries)).read(Did)


def revoke_did(did: str, retries: int) -> Plan[Revocation]:
    request = Request("POST", _path(did, "revoke"))
    return (yield from exchange(request, retries)).read(Revocation)


def erase_did(did: str, retries: int) -> Plan[Erased]:
    return (yield from exchange(Request("DELETE", _path(did, "data")), retries)).read(Erased)


def _listing(
    owner_address: str | None,
    key_type: KeyType | None,
    revoked: bool | None,
    page_size: int | None,
) -> Listing[Did]:
    query = filters(
        owner_address=owner_address, key_type=key_type, revoked=revoked, limit=page_size
    )
    return Listing("/v1/dids", partial(read, Did), query)


class Dids:
    """``client.dids``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        owner_address: str | None = None,
        key_type: KeyType | None = None,
        revoked: bool | None = None,
        page_size: int | None = None,
    ) -> Iterator[Did]:
        """The stored DIDs, in the order of their text. Pages are fetched as they are needed."""
        return _listing(owner_address, key_type, revoked, page_size).on(self._transport)

    def read(self, did: str, *, max_age: int | None = None) -> Did:
        """Reads a DID's keys; with ``max_age``, not older than so many seconds.

        >>> client.dids.read("did:web:alice.example").public_key
        """
        return self._transport.run(read_did(did, max_age, self._transport.retries))

    def store(
        self, did: str, *, public_key: bytes, key_type: KeyType, owner_address: str | None = None
    ) -> Did:
        """Stores, or replaces, the key of a DID that no resolver reads."""
        plan = store_did(did, public_key, key_type, owner_address, self._transport.retries)
        return self._transport.run(plan)

    def forget(self, did: str) -> None:
        """Forgets a DID that is not revoked."""
        self._transport.run(forget_did(did, self._transport.retries))

    def refresh(self, did: str) -> Did:
        """Reads a DID again from where it lives."""
        return self._transport.run(refresh_did(did, self._transport.retries))

    def revoke(self, did: str) -> Revocation:
        """Revokes a DID, for good. Its sessions end."""
        return self._transport.run(revoke_did(did, self._transport.retries))

    def erase(self, did: str) -> Erased:
        """Erases what is kept about a DID. Digests of its nonces and its revocation stay, so that
        no message can be used again."""
        return self._transport.run(erase_did(did, self._transport.retries))


class AsyncDids:
    """``client.dids`` of the asyncio client; :class:`Dids` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        owner_address: str | None = None,
        key_type: KeyType | None = None,
        revoked: bool | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Did]:
        """The stored DIDs; ``async for`` fetches the pages as they are needed."""
        return _listing(owner_address, key_type, revoked, page_size).on_async(self._transport)

    async def read(self, did: str, *, max_age: int | None = None) -> Did:
        """Reads a DID's keys; with ``max_age``, not older than so many seconds."""
        return await self._transport.run(read_did(did, max_age, self._transport.retries))

    async def store(
        self, did: str, *, public_key: bytes, key_type: KeyType, owner_address: str | None = None
    ) -> Did:
        """Stores, or replaces, the key of a DID that no resolver reads."""
        plan = store_did(did, public_key, key_type, owner_address, self._transport.retries)
        return await self._transport.run(plan)

    async def forget(self, did: str) -> None:
        """Forgets a DID that is not revoked."""
        await self._transport.run(forget_did(did, self._transport.retries))

    async def refresh(self, did: str) -> Did:
        """Reads a DID again from where it lives."""
        return await self._transport.run(refresh_did(did, self._transport.retries))

    async def revoke(self, did: str) -> Revocation:
        """Revokes a DID, for good. Its sessions end."""
        return await self._transport.run(revoke_did(did, self._transport.retries))

    async def erase(self, did: str) -> Erased:
        """Erases what is kept about a DID."""
        return await self._transport.run(erase_did(did, self._transport.retries))
