"""Webhooks: where events are sent, what became of them there, and sending them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, overload
from urllib.parse import quote

from ..transport import AsyncTransport, Plan, Request, Transport, exchange, read
from ..webhooks import (
    CreatedWebhook,
    Webhook,
    WebhookDelivery,
    WebhookDeliveryState,
    WebhookSignature,
)
from ..wire import without_none, write_time
from .pages import Listing, filters


def _path(webhook_id: str, *more: str) -> str:
    return "/".join(["/v1/webhooks", quote(webhook_id, safe=""), *more])


def _fields(types: Iterable[str] | None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return without_none({**fields, "types": None if types is None else [*types]})


@dataclass(frozen=True)
class _All:
    items: tuple[Webhook, ...]


def create_webhook(fields: Mapping[str, Any], retries: int) -> Plan[CreatedWebhook]:
    request = Request("POST", "/v1/webhooks", body=fields)
    return (yield from exchange(request, retries)).read(CreatedWebhook)


def list_webhooks(retries: int) -> Plan[tuple[Webhook, ...]]:
    request = Request("GET", "/v1/webhooks", repeatable=True)
    return (yield from exchange(request, retries)).read(_All).items


def change_webhook(webhook_id: str, fields: Mapping[str, Any], retries: int) -> Plan[Webhook]:
    request = Request("PATCH", _path(webhook_id), body=fields)
    return (yield from exchange(request, retries)).read(Webhook)


def delete_webhook(webhook_id: str, retries: int) -> Plan[None]:
    yield from exchange(Request("DELETE", _path(webhook_id)), retries)


def replay_webhook(
    webhook_id: str, event: str | None, since: datetime | None, retries: int
) -> Plan[None]:
    body = without_none({"event": event, "since": None if since is None else write_time(since)})
    yield from exchange(Request("POST", _path(webhook_id, "replay"), body=body), retries)


def _deliveries(
    webhook_id: str, state: WebhookDeliveryState | None, page_size: int | None
) -> Listing[WebhookDelivery]:
    query = filters(state=state, limit=page_size)
    return Listing(_path(webhook_id, "deliveries"), partial(read, WebhookDelivery), query)


class Webhooks:
    """``client.webhooks``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, *, url: str, types: Iterable[str], signature: WebhookSignature | None = None
    ) -> CreatedWebhook:
        """Makes a webhook, which gets the events that come from now on. Only this answer has its
        ``secret``. It is sent once: when its answer was lost, look for the webhook in the list,
        delete it, and make another one.

        >>> types = ["com.example.order.paid"]
        >>> client.webhooks.create(url="https://receiver.example/hooks", types=types).secret
        """
        fields = _fields(types, url=url, signature=signature)
        return self._transport.run(create_webhook(fields, self._transport.retries))

    def list(self) -> tuple[Webhook, ...]:
        """All webhooks, the oldest first, without their secrets."""
        return self._transport.run(list_webhooks(self._transport.retries))

    def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        types: Iterable[str] | None = None,
        paused: bool | None = None,
    ) -> Webhook:
        """Changes, pauses or resumes a webhook. What waited for it is sent once it is resumed."""
        fields = _fields(types, url=url, paused=paused)
        return self._transport.run(change_webhook(webhook_id, fields, self._transport.retries))

    def delete(self, webhook_id: str) -> None:
        """Deletes a webhook, and what is left to send to it."""
        self._transport.run(delete_webhook(webhook_id, self._transport.retries))

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: WebhookDeliveryState | None = None,
        page_size: int | None = None,
    ) -> Iterator[WebhookDelivery]:
        """What became of events at a webhook, the newest event first. Pages are fetched as they
        are needed.

        >>> for delivery in client.webhooks.deliveries(webhook_id, state="dead"):
        ...     print(delivery.event, delivery.last_error)
        """
        return _deliveries(webhook_id, state, page_size).on(self._transport)

    @overload
    def replay(self, webhook_id: str, *, event: str) -> None: ...

    @overload
    def replay(self, webhook_id: str, *, since: datetime) -> None: ...

    def replay(
        self, webhook_id: str, *, event: str | None = None, since: datetime | None = None
    ) -> None:
        """Sends an event again, or all since a time, also those that the receiver took."""
        plan = replay_webhook(webhook_id, event, since, self._transport.retries)
        self._transport.run(plan)


class AsyncWebhooks:
    """``client.webhooks`` of the asyncio client; :class:`Webhooks` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, *, url: str, types: Iterable[str], signature: WebhookSignature | None = None
    ) -> CreatedWebhook:
        """Makes a webhook. Only this answer has its ``secret``; it is sent once."""
        fields = _fields(types, url=url, signature=signature)
        return await self._transport.run(create_webhook(fields, self._transport.retries))

    async def list(self) -> tuple[Webhook, ...]:
        """All webhooks, the oldest first, without their secrets."""
        return await self._transport.run(list_webhooks(self._transport.retries))

    async def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        types: Iterable[str] | None = None,
        paused: bool | None = None,
    ) -> Webhook:
        """Changes, pauses or resumes a webhook."""
        plan = change_webhook(
            webhook_id, _fields(types, url=url, paused=paused), self._transport.retries
        )
        return await self._transport.run(plan)

    async def delete(self, webhook_id: str) -> None:
        """Deletes a webhook, and what is left to send to it."""
        await self._transport.run(delete_webhook(webhook_id, self._transport.retries))

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: WebhookDeliveryState | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[WebhookDelivery]:
        """What became of events; ``async for`` fetches the pages as they are needed."""
        return _deliveries(webhook_id, state, page_size).on_async(self._transport)

    @overload
    async def replay(self, webhook_id: str, *, event: str) -> None: ...

    @overload
    async def replay(self, webhook_id: str, *, since: datetime) -> None: ...

    async def replay(
        self, webhook_id: str, *, event: str | None = None, since: datetime | None = None
    ) -> None:
        """Sends an event again, or all since a time, also those that the receiver took."""
        plan = replay_webhook(webhook_id, event, since, self._transport.retries)
        await self._transport.run(plan)
