"""Lists, page by page, as iterators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..transport import AsyncTransport, Plan, Request, Transport, exchange

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Listing(Generic[T]):
    """What is listed, and by which filter."""

    path: str
    #: Reads an item of a page.
    item: Callable[[Any], T]
    query: Mapping[str, str]

    def _page(self, cursor: str | None, retries: int) -> Plan[Page[T]]:
        query = self.query if cursor is None else {**self.query, "cursor": cursor}
        page = yield from exchange(Request("GET", self.path, query, repeatable=True), retries)
        items = tuple(self.item(item) for item in page.member("items"))
        return Page(items, page.member("next_cursor"))

    def on(self, transport: Transport) -> Iterator[T]:
        cursor = None
        while True:
            page = transport.run(self._page(cursor, transport.retries))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    async def on_async(self, transport: AsyncTransport) -> AsyncIterator[T]:
        cursor = None
        while True:
            page = await transport.run(self._page(cursor, transport.retries))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return


def filters(**given: str | int | bool | None) -> dict[str, str]:
    """What the caller gave, as a query."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in given.items()
        if value is not None
    }
