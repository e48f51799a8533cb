"""The feed of an owner's records: changes in their order, which can be followed later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from ..records import RecordFeed
from ..transport import AsyncTransport, Plan, Request, Transport, exchange
from .pages import filters


@dataclass(frozen=True)
class Feed:
    """The changes of an owner's records, page by page."""

    path: str
    query: Mapping[str, str]
    #: The parameter that says where to go on.
    after: str = "since"

    def _page(self, cursor: str | None, retries: int) -> Plan[RecordFeed]:
        query = self.query if cursor is None else {**self.query, self.after: cursor}
        request = Request("GET", self.path, query, repeatable=True)
        return (yield from exchange(request, retries)).read(RecordFeed)

    def on(self, transport: Transport, since: str | None) -> Iterator[RecordFeed]:
        while True:
            page = transport.run(self._page(since, transport.retries))
            yield page
            if not page.has_more:
                return
            since = page.next_cursor

    async def on_async(
        self, transport: AsyncTransport, since: str | None
    ) -> AsyncIterator[RecordFeed]:
        while True:
            page = await transport.run(self._page(since, transport.retries))
            yield page
            if not page.has_more:
                return
            since = page.next_cursor


def record_feed(
    path: str,
    kind: str | None,
    contents: bool,
    page_size: int | None,
    metadata: Mapping[str, str] | None = None,
) -> Feed:
    """The records at this path; by their metadata, they are listed and not followed."""
    fields = None if contents else "meta"
    query = filters(kind=kind, fields=fields, limit=page_size)
    if not metadata:
        return Feed(path, query)
    conditions = {f"metadata.{name}": value for name, value in metadata.items()}
    return Feed(path, {**query, **conditions}, after="cursor")
