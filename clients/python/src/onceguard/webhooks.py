"""What webhooks are, as onceguard answers with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

#: How deliveries are signed: ``v1`` is HMAC-SHA256, ``v1a`` is Ed25519.
WebhookSignature = Literal["v1", "v1a"]
WebhookState = Literal["active", "paused", "disabled"]
WebhookDeliveryState = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """An endpoint that events are sent to."""

    id: str
    #: The configuration's; ``None`` if a caller made it.
    name: str | None
    url: str
    #: The types of events that it hears; ``*`` stands for all.
    types: tuple[str, ...]
    signature: WebhookSignature
    #: ``active``: events are sent. ``paused`` and ``disabled``: they wait.
    state: WebhookState
    #: Why it is not active, where no caller paused it.
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CreatedWebhook(Webhook):
    """A webhook that was made."""

    #: What its receiver verifies with: the secret (``whsec_…``), or with ``v1a`` the public key
    #: (``whpk_…``). It comes only here, and ``repr`` leaves it out.
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class WebhookDelivery:
    """What became of an event at a webhook."""

    #: The id of the event, and the ``webhook-id`` that it is sent with.
    event: str
    #: The event's place in the log.
    sequence: int
    #: ``pending``: it is sent, or sent again. ``dead``: it was given up.
    state: WebhookDeliveryState
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    last_attempt_at: datetime | None
    #: Of the last answer.
    last_status: int | None
    #: Why the last attempt failed.
    last_error: str | None
