"""Sessions between DIDs, their keys, and the nonces that are claimed in them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

from .. import errors
from ..transport import AsyncTransport, Exchanged, Plan, Request, Transport, exchange, read
from ..types import AcceptedNonce, Session, SessionState, UsedNonce
from ..wire import without_none, write_bytes
from .claims import fresh_key
from .pages import Listing, filters


def uuid7() -> str:
    """A UUID that says when it was made (RFC 9562, section 5.7)."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


def _path(session_id: str, *more: str) -> str:
    return "/".join(["/v1/sessions", *(quote(part, safe="") for part in (session_id, *more))])


def _session(exchanged: Exchanged) -> Session:
    return exchanged.read(Session, etag=exchanged.reply.headers.get("etag"))


def open_session(fields: Mapping[str, Any], retries: int) -> Plan[Session]:
    made_here = "id" not in fields
    body = {"id": uuid7(), **fields}
    request = Request("POST", "/v1/sessions", body=body, repeatable=made_here)
    try:
        return _session((yield from exchange(request, retries)))
    except errors.SessionExists as error:
        if not made_here or error.attempts < 2:
            raise
        # An earlier try opened it, and its answer was lost.
        session = yield from read_session(body["id"], retries)
        if (session.client_did, session.server_did) != (body["client_did"], body["server_did"]):
            raise
        return session


def read_session(session_id: str, retries: int) -> Plan[Session]:
    request = Request("GET", _path(session_id), repeatable=True)
    return _session((yield from exchange(request, retries)))


def change_session(
    session_id: str, fields: Mapping[str, Any], if_match: str | None, retries: int
) -> Plan[Session]:
    headers = {} if if_match is None else {"If-Match": if_match}
    request = Request("PATCH", _path(session_id), body=fields, headers=headers)
    return _session((yield from exchange(request, retries)))


def touch_session(session_id: str, retries: int) -> Plan[None]:
    yield from exchange(Request("POST", _path(session_id, "touch")), retries)


def end_session(session_id: str, retries: int) -> Plan[None]:
    yield from exchange(Request("DELETE", _path(session_id)), retries)


def end_sessions(fields: Mapping[str, Any], retries: int) -> Plan[int]:
    request = Request("POST", "/v1/sessions/end", body=fields)
    ended: int = (yield from exchange(request, retries)).member("ended")
    return ended


@dataclass(frozen=True)
class _Key:
    session_key: bytes


def read_key(session_id: str, retries: int) -> Plan[bytes]:
    request = Request("GET", _path(session_id, "key"), repeatable=True)
    return (yield from exchange(request, retries)).read(_Key).session_key


def claim_nonce(
    session_id: str, nonce: str, idempotency_key: str | None, retries: int
) -> Plan[AcceptedNonce]:
    headers = fresh_key(idempotency_key)
    path = _path(session_id, "nonces")
    request = Request("POST", path, body={"nonce": nonce}, headers=headers, repeatable=True)
    return (yield from exchange(request, retries)).read(AcceptedNonce)


def used_nonce(session_id: str, nonce: str, retries: int) -> Plan[UsedNonce | None]:
    request = Request("GET", _path(session_id, "nonces", nonce), repeatable=True)
    try:
        return (yield from exchange(request, retries)).read(UsedNonce)
    except errors.NotFound as error:
        if error.code != "nonce_unused":
            raise
        return None


def _listing(
    client_did: str | None,
    server_did: str | None,
    state: SessionState | Literal["all"] | None,
    page_size: int | None,
) -> Listing[Session]:
    query = filters(client_did=client_did, server_did=server_did, state=state, limit=page_size)
    return Listing("/v1/sessions", partial(read, Session), query)


def _fields(session_key: bytes | None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    key = None if session_key is None else write_bytes(session_key)
    return without_none({**fields, "session_key": key})


class Sessions:
    """``client.sessions``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def open(
        self,
        *,
        client_did: str,
        server_did: str,
        id: str | None = None,  # noqa: A002 - the field's name
        session_key: bytes | None = None,
        ttl_seconds: int | None = None,
        idle_timeout_seconds: int | None = None,
        max_claims: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Opens a session. Leave ``id`` out: then a lost answer is repeated safely.

        >>> session = client.sessions.open(
        ...     client_did="did:web:alice.example", server_did="did:web:bob.example"
        ... )
        """
        fields = _fields(
            session_key,
            id=id,
            client_did=client_did,
            server_did=server_did,
            ttl_seconds=ttl_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            max_claims=max_claims,
            metadata=metadata,
        )
        return self._transport.run(open_session(fields, self._transport.retries))

    def list(
        self,
        *,
        client_did: str | None = None,
        server_did: str | None = None,
        state: SessionState | Literal["all"] | None = None,
        page_size: int | None = None,
    ) -> Iterator[Session]:
        """Sessions, newest first: the active ones, unless ``state`` says otherwise. Pages are
        fetched as they are needed."""
        return _listing(client_did, server_did, state, page_size).on(self._transport)

    def read(self, session_id: str) -> Session:
        """Reads a session."""
        return self._transport.run(read_session(session_id, self._transport.retries))

    def change(
        self,
        session_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_key: bytes | None = None,
        ttl_seconds: int | None = None,
        if_match: str | None = None,
    ) -> Session:
        """Changes a session; with ``if_match=session.etag``, only if it is still that one."""
        fields = _fields(session_key, metadata=metadata, ttl_seconds=ttl_seconds)
        plan = change_session(session_id, fields, if_match, self._transport.retries)
        return self._transport.run(plan)

    def touch(self, session_id: str) -> None:
        """Keeps a session from going idle."""
        self._transport.run(touch_session(session_id, self._transport.retries))

    def end(self, session_id: str) -> None:
        """Ends a session: its key is wiped, its nonces stay spent."""
        self._transport.run(end_session(session_id, self._transport.retries))

    def end_all(self, *, client_did: str | None = None, server_did: str | None = None) -> int:
        """Ends all sessions of a client, of a server, or between the two; says how many."""
        fields = without_none({"client_did": client_did, "server_did": server_did})
        return self._transport.run(end_sessions(fields, self._transport.retries))

    def key(self, session_id: str) -> bytes:
        """Reads the session's key."""
        return self._transport.run(read_key(session_id, self._transport.retries))

    def claim(
        self, session_id: str, nonce: str, *, idempotency_key: str | None = None
    ) -> AcceptedNonce:
        """Claims a nonce. Act on its message only when this returns.

        A lost answer is repeated under the same key, so it never reads as a replay.

        >>> client.sessions.claim(session.id, "b64d1f0e7a")  # accepted
        >>> client.sessions.claim(session.id, "b64d1f0e7a")  # raises NonceReplayed
        """
        plan = claim_nonce(session_id, nonce, idempotency_key, self._transport.retries)
        return self._transport.run(plan)

    def used(self, session_id: str, nonce: str) -> UsedNonce | None:
        """Whether a nonce was used; None if not. Never act on None: only a claim is a licence."""
        return self._transport.run(used_nonce(session_id, nonce, self._transport.retries))


class AsyncSessions:
    """``client.sessions`` of the asyncio client; :class:`Sessions` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def open(
        self,
        *,
        client_did: str,
        server_did: str,
        id: str | None = None,  # noqa: A002 - the field's name
        session_key: bytes | None = None,
        ttl_seconds: int | None = None,
        idle_timeout_seconds: int | None = None,
        max_claims: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Opens a session. Leave ``id`` out: then a lost answer is repeated safely."""
        fields = _fields(
            session_key,
            id=id,
            client_did=client_did,
            server_did=server_did,
            ttl_seconds=ttl_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            max_claims=max_claims,
            metadata=metadata,
        )
        return await self._transport.run(open_session(fields, self._transport.retries))

    def list(
        self,
        *,
        client_did: str | None = None,
        server_did: str | None = None,
        state: SessionState | Literal["all"] | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Session]:
        """Sessions, newest first; ``async for`` fetches the pages as they are needed."""
        return _listing(client_did, server_did, state, page_size).on_async(self._transport)

    async def read(self, session_id: str) -> Session:
        """Reads a session."""
        return await self._transport.run(read_session(session_id, self._transport.retries))

    async def change(
        self,
        session_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_key: bytes | None = None,
        ttl_seconds: int | None = None,
        if_match: str | None = None,
    ) -> Session:
        """Changes a session; with ``if_match=session.etag``, only if it is still that one."""
        fields = _fields(session_key, metadata=metadata, ttl_seconds=ttl_seconds)
        plan = change_session(session_id, fields, if_match, self._transport.retries)
        return await self._transport.run(plan)

    async def touch(self, session_id: str) -> None:
        """Keeps a session from going idle."""
        await self._transport.run(touch_session(session_id, self._transport.retries))

    async def end(self, session_id: str) -> None:
        """Ends a session: its key is wiped, its nonces stay spent."""
        await self._transport.run(end_session(session_id, self._transport.retries))

    async def end_all(self, *, client_did: str | None = None, server_did: str | None = None) -> int:
        """Ends all sessions of a client, of a server, or between the two; says how many."""
        fields = without_none({"client_did": client_did, "server_did": server_did})
        return await self._transport.run(end_sessions(fields, self._transport.retries))

    async def key(self, session_id: str) -> bytes:
        """Reads the session's key."""
        return await self._transport.run(read_key(session_id, self._transport.retries))

    async def claim(
        self, session_id: str, nonce: str, *, idempotency_key: str | None = None
    ) -> AcceptedNonce:
        """Claims a nonce. Act on its message only when this returns."""
        plan = claim_nonce(session_id, nonce, idempotency_key, self._transport.retries)
        return await self._transport.run(plan)

    async def used(self, session_id: str, nonce: str) -> UsedNonce | None:
        """Whether a nonce was used; None if not. Never act on None: only a claim is a licence."""
        return await self._transport.run(used_nonce(session_id, nonce, self._transport.retries))
