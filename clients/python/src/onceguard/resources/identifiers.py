"""DIDs as a Universal Resolver gives them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .. import errors
from ..transport import AsyncTransport, Plan, Request, Transport, exchange


def _read(path: str, retries: int) -> Plan[Any]:
    request = Request("GET", path, repeatable=True)
    return (yield from exchange(request, retries)).body


def _resolve(did: str, retries: int) -> Plan[dict[str, Any]]:
    path = f"/1.0/identifiers/{quote(did, safe='')}"
    headers = {"Accept": "application/did-resolution"}
    try:
        request = Request("GET", path, headers=headers, repeatable=True)
        result: dict[str, Any] = (yield from exchange(request, retries)).body
    except errors.OnceguardError as error:
        # That a DID does not resolve is a result, too.
        if "didResolutionMetadata" not in error.problem:
            raise
        return dict(error.problem)
    return result


class Identifiers:
    """``client.identifiers``: the answers are as W3C DID Resolution defines them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def resolve(self, did: str) -> dict[str, Any]:
        """The DID resolution result: ``didDocument``, or why there is none."""
        return self._transport.run(_resolve(did, self._transport.retries))

    def methods(self) -> list[str]:
        """The DID methods that can be resolved."""
        methods: list[str] = self._transport.run(_read("/1.0/methods", self._transport.retries))
        return methods

    def properties(self) -> dict[str, Any]:
        """Who resolves each method."""
        plan = _read("/1.0/properties", self._transport.retries)
        properties: dict[str, Any] = self._transport.run(plan)
        return properties


class AsyncIdentifiers:
    """``client.identifiers`` of the asyncio client; :class:`Identifiers` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def resolve(self, did: str) -> dict[str, Any]:
        """The DID resolution result: ``didDocument``, or why there is none."""
        return await self._transport.run(_resolve(did, self._transport.retries))

    async def methods(self) -> list[str]:
        """The DID methods that can be resolved."""
        plan = _read("/1.0/methods", self._transport.retries)
        methods: list[str] = await self._transport.run(plan)
        return methods

    async def properties(self) -> dict[str, Any]:
        """Who resolves each method."""
        plan = _read("/1.0/properties", self._transport.retries)
        properties: dict[str, Any] = await self._transport.run(plan)
        return properties
