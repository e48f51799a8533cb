"""What events are, as onceguard answers with them and as it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event to publish."""

    #: What happened, such as ``com.example.order.paid``: letters, digits, dots, hyphens and
    #: underscores. What begins with ``onceguard.`` is the service's own.
    type: str
    #: What it is about.
    subject: str
    #: Anything; at most 16 KiB.
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the log."""

    id: str
    #: Its place in the log. Later events have higher ones; some are left out.
    sequence: int
    type: str
    #: ``onceguard``, or the token that published it.
    source: str
    #: None once the event is emptied.
    subject: str | None
    #: None once the event is emptied.
    actor: str | None
    #: ``success``, or the code of a refusal.
    outcome: str
    #: Of the call that it comes from.
    request_id: str | None
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EventFeed:
    """A page of the log; without items, there is nothing new yet."""

    items: tuple[Event, ...]
    #: Where to go on.
    next_cursor: str
