"""The processes that serve, or have served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

from ..transport import AsyncTransport, Transport, read
from ..types import Instance
from .pages import Listing, filters


def _listing(page_size: int | None) -> Listing[Instance]:
    return Listing("/v1/instances", partial(read, Instance), filters(limit=page_size))


class Instances:
    """``client.instances``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, page_size: int | None = None) -> Iterator[Instance]:
        """The instances of the last week, the latest start first. Pages are fetched as they are
        needed."""
        return _listing(page_size).on(self._transport)


class AsyncInstances:
    """``client.instances`` of the asyncio client."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, page_size: int | None = None) -> AsyncIterator[Instance]:
        """The instances of the last week; ``async for`` fetches the pages as they are needed."""
        return _listing(page_size).on_async(self._transport)
