"""The log of events: callers publish into it, and read it in one order that skips nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

from ..events import Event, EventFeed, NewEvent
from ..transport import AsyncTransport, Pause, Plan, Request, Transport, exchange
from ..wire import without_none, write_time
from .claims import fresh_key
from .pages import filters


def _fields(event: NewEvent) -> dict[str, Any]:
    return without_none({"type": event.type, "subject": event.subject, "data": event.data})


def _request(body: Mapping[str, Any], idempotency_key: str | None) -> Request:
    headers = fresh_key(idempotency_key)
    return Request("POST", "/v1/events", body=body, headers=headers, repeatable=True)


def publish_one(event: NewEvent, idempotency_key: str | None, retries: int) -> Plan[str]:
    request = _request(_fields(event), idempotency_key)
    event_id: str = (yield from exchange(request, retries)).member("id")
    return event_id


def publish_many(
    events: Iterable[NewEvent], idempotency_key: str | None, retries: int
) -> Plan[tuple[str, ...]]:
    request = _request({"events": [_fields(event) for event in events]}, idempotency_key)
    return tuple((yield from exchange(request, retries)).member("ids"))


@dataclass(frozen=True)
class _Log:
    """The log, by a filter, page by page."""

    query: Mapping[str, str]

    def _page(self, since: str | None, pause: float, retries: int) -> Plan[EventFeed]:
        if pause > 0:
            yield Pause(pause)
        query = self.query if since is None else {**self.query, "since": since}
        request = Request("GET", "/v1/events", query, repeatable=True)
        return (yield from exchange(request, retries)).read(EventFeed)

    def items(self, transport: Transport) -> Iterator[Event]:
        page = transport.run(self._page(None, 0, transport.retries))
        while page.items:
            yield from page.items
            page = transport.run(self._page(page.next_cursor, 0, transport.retries))

    async def items_async(self, transport: AsyncTransport) -> AsyncIterator[Event]:
        page = await transport.run(self._page(None, 0, transport.retries))
        while page.items:
            for event in page.items:
                yield event
            page = await transport.run(self._page(page.next_cursor, 0, transport.retries))

    def follow(self, transport: Transport, since: str | None, wait: float) -> Iterator[EventFeed]:
        pause = 0.0
        while True:
            page = transport.run(self._page(since, pause, transport.retries))
            yield page
            since, pause = page.next_cursor, 0.0 if page.items else wait

    async def follow_async(
        self, transport: AsyncTransport, since: str | None, wait: float
    ) -> AsyncIterator[EventFeed]:
        pause = 0.0
        while True:
            page = await transport.run(self._page(since, pause, transport.retries))
            yield page
            since, pause = page.next_cursor, 0.0 if page.items else wait


def _log(
    kind: str | None,
    subject: str | None,
    actor: str | None,
    outcome: str | None,
    begin: datetime | None,
    end: datetime | None,
    page_size: int | None,
) -> _Log:
    query = filters(type=kind, subject=subject, actor=actor, outcome=outcome, limit=page_size)
    times = {"from": begin, "to": end}
    return _Log(
        query | {name: write_time(time) for name, time in times.items() if time is not None}
    )


class Events:
    """``client.events``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @overload
    def publish(self, events: NewEvent, *, idempotency_key: str | None = None) -> str: ...

    @overload
    def publish(
        self, events: Iterable[NewEvent], *, idempotency_key: str | None = None
    ) -> tuple[str, ...]: ...

    def publish(
        self, events: NewEvent | Iterable[NewEvent], *, idempotency_key: str | None = None
    ) -> str | tuple[str, ...]:
        """Publishes an event, and gives its id; or many, of which all are written or none. When
        this returns, they are on disk. A lost answer is repeated under the same key, so that
        nothing is written twice.

        >>> client.events.publish(NewEvent(type="com.example.order.paid", subject="order 7"))
        """
        if isinstance(events, NewEvent):
            return self._transport.run(
                publish_one(events, idempotency_key, self._transport.retries)
            )
        return self._transport.run(publish_many(events, idempotency_key, self._transport.retries))

    def list(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        subject: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[Event]:
        """The events that are there, in their order: those that have exactly this, from the one
        time and before the other. Pages are fetched as they are needed."""
        log = _log(type, subject, actor, outcome, from_, to, page_size)
        return log.items(self._transport)

    def follow(
        self,
        *,
        since: str | None = None,
        wait: float = 1.0,
        type: str | None = None,  # noqa: A002 - the field's name
        subject: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[EventFeed]:
        """The events in their order, in pages, and for ever: a page without items says that there
        is nothing new, and the next one is asked for after ``wait`` seconds. Keep the
        ``next_cursor`` of a page that is done, and give it as ``since`` to go on there.

        >>> for page in client.events.follow(since=since):
        ...     for event in page.items:
        ...         act(event)
        ...     since = page.next_cursor

        :raises CursorExpired: events were removed that ``since`` has not seen: begin without it.
        """
        log = _log(type, subject, actor, outcome, from_, to, page_size)
        return log.follow(self._transport, since, wait)


class AsyncEvents:
    """``client.events`` of the asyncio client; :class:`Events` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @overload
    async def publish(self, events: NewEvent, *, idempotency_key: str | None = None) -> str: ...

    @overload
    async def publish(
        self, events: Iterable[NewEvent], *, idempotency_key: str | None = None
    ) -> tuple[str, ...]: ...

    async def publish(
        self, events: NewEvent | Iterable[NewEvent], *, idempotency_key: str | None = None
    ) -> str | tuple[str, ...]:
        """Publishes an event, and gives its id; or many, of which all are written or none."""
        retries = self._transport.retries
        if isinstance(events, NewEvent):
            return await self._transport.run(publish_one(events, idempotency_key, retries))
        return await self._transport.run(publish_many(events, idempotency_key, retries))

    def list(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        subject: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Event]:
        """The events that are there; ``async for`` fetches the pages as they are needed."""
        log = _log(type, subject, actor, outcome, from_, to, page_size)
        return log.items_async(self._transport)

    def follow(
        self,
        *,
        since: str | None = None,
        wait: float = 1.0,
        type: str | None = None,  # noqa: A002 - the field's name
        subject: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[EventFeed]:
        """The events in their order, in pages, and for ever; ``async for`` waits for more."""
        log = _log(type, subject, actor, outcome, from_, to, page_size)
        return log.follow_async(self._transport, since, wait)
