"""Webhooks: what the service sends to a receiver, and the calls about it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Literal

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook as Verifier

from onceguard import (
    AsyncOnceguard,
    CreatedWebhook,
    Forbidden,
    InvalidRequest,
    Key,
    NewEvent,
    NoAnswer,
    NotFound,
    Onceguard,
    UnexpectedAnswer,
    WebhookDelivery,
)

from .support import TOKEN, URL, Cutting, Exchange, serving, url_of
from .test_events import fresh_type
from .test_retries import When, each_way


def wait_for(state: Callable[[], bool]) -> None:
    """Waits for this, a minute and more where the instance is slow."""
    end = time.monotonic() + 90
    while not state():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class Receiver:
    """An endpoint that answers with this status, and keeps what it got."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.got: list[tuple[dict[str, str], bytes]] = []

    def __call__(self, exchange: Exchange) -> None:
        self.got.append((dict(exchange.headers.items()), exchange.body))
        exchange.answer(self.status, {})

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@contextmanager
def hearing(
    client: Onceguard, receiver: Receiver, kind: str, signature: Literal["v1", "v1a"] = "v1"
) -> Iterator[tuple[CreatedWebhook, Callable[[str], str]]]:
    """A webhook of this receiver, and what publishes an event that it hears."""
    with serving(receiver) as server:
        made = client.webhooks.create(url=url_of(server), types=[kind], signature=signature)
        try:
            yield made, lambda subject: client.events.publish(NewEvent(type=kind, subject=subject))
        finally:
            client.webhooks.delete(made.id)


def states(found: Iterator[WebhookDelivery]) -> dict[str, str]:
    return {delivery.event: delivery.state for delivery in found}


def test_a_receiver_verifies_ed25519_signatures(client: Onceguard) -> None:
    receiver = Receiver()
    with hearing(client, receiver, fresh_type(), "v1a") as (made, publish):
        published = publish("one")
        wait_for(lambda: receiver.ids == [published])
        public = base64.b64decode(made.secret.removeprefix("whpk_"))
        headers, body = receiver.got[0]
        signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
        signed = f"{published}.{headers['webhook-timestamp']}.".encode() + body
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, signed)
        with pytest.raises(InvalidSignature):
            key.verify(signature, signed + b" ")


def test_a_receiver_verifies_what_it_gets(client: Onceguard) -> None:
    receiver = Receiver()
    with hearing(client, receiver, fresh_type()) as (made, publish):
        assert (made.state, made.signature, made.reason) == ("active", "v1", None)
        published = [publish(str(n)) for n in range(3)]
        wait_for(lambda: len(receiver.got) >= 3)
        verifier = Verifier(made.secret)
        events = [verifier.verify(body, headers) for headers, body in receiver.got]
        assert {event["data"]["id"]: event["data"]["subject"] for event in events} == dict(
            zip(published, "012", strict=True)
        )
        assert set(receiver.ids) == set(published)

        wait_for(lambda: len([*client.webhooks.deliveries(made.id, state="delivered")]) == 3)
        delivered = list(client.webhooks.deliveries(made.id, state="delivered", page_size=2))
        assert [delivery.event for delivery in delivered] == published[::-1]
        last = delivered[0]
        assert (last.state, last.last_status) == ("delivered", 204)
        assert last.attempts >= 1
        assert (last.next_attempt_at, last.last_error) == (None, None)
        assert last.last_attempt_at is not None
        assert last.created_at <= last.last_attempt_at
        assert last.sequence > delivered[1].sequence
        assert list(client.webhooks.deliveries(made.id, state="dead")) == []


def test_events_are_sent_again(client: Onceguard) -> None:
    receiver = Receiver()
    with hearing(client, receiver, fresh_type()) as (made, publish):
        first, second = publish("1"), publish("2")
        both = {first: "delivered", second: "delivered"}
        wait_for(lambda: states(client.webhooks.deliveries(made.id)) == both)
        client.webhooks.replay(made.id, event=first)
        wait_for(lambda: receiver.ids.count(first) >= 2)
        wait_for(lambda: states(client.webhooks.deliveries(made.id)) == both)
        client.webhooks.replay(made.id, since=datetime.now(timezone.utc) - timedelta(hours=1))
        wait_for(lambda: receiver.ids.count(first) >= 3 and receiver.ids.count(second) >= 2)
        with pytest.raises(NotFound):
            client.webhooks.replay(made.id, event=made.id)


def test_a_webhook_is_changed_paused_and_resumed(client: Onceguard) -> None:
    receiver, kind, other = Receiver(), fresh_type(), fresh_type()
    with hearing(client, receiver, other) as (made, _), serving(receiver) as server:
        [listed] = [webhook for webhook in client.webhooks.list() if webhook.id == made.id]
        assert vars(made) == {**vars(listed), "secret": made.secret}
        url = f"{url_of(server)}/elsewhere"
        changed = client.webhooks.change(made.id, url=url, types=(each for each in [kind]))
        assert (changed.url, changed.types, changed.state) == (url, (kind,), "active")
        assert client.webhooks.change(made.id, paused=True).state == "paused"
        published = client.events.publish(NewEvent(type=kind, subject="s"))
        resumed = client.webhooks.change(made.id, paused=False)
        assert resumed == changed
        wait_for(lambda: published in receiver.ids)


def test_what_fails_is_told(client: Onceguard) -> None:
    receiver = Receiver(500)
    with hearing(client, receiver, fresh_type()) as (made, publish):
        publish("s")

        def tried() -> list[WebhookDelivery]:
            pending = client.webhooks.deliveries(made.id, state="pending")
            return [delivery for delivery in pending if delivery.last_status == 500]

        wait_for(lambda: len(tried()) == 1)
        [failed] = tried()
        assert failed.last_error == "answers 500"
        assert failed.attempts >= 1
        assert failed.last_attempt_at is not None
        assert failed.next_attempt_at is not None
        assert failed.next_attempt_at > failed.last_attempt_at
        receiver.status = 410
        publish("gone")

        def state() -> tuple[str, bool]:
            [listed] = [webhook for webhook in client.webhooks.list() if webhook.id == made.id]
            return listed.state, listed.reason is not None

        wait_for(lambda: state() == ("disabled", True))
        assert client.webhooks.change(made.id, paused=False).state == "active"


def test_the_secret_is_not_shown(client: Onceguard) -> None:
    url, types = "https://receiver.example/hooks", ["*"]
    for made in (
        client.webhooks.create(url=url, types=types),
        client.webhooks.create(url=url, types=types, signature="v1a"),
    ):
        prefix = {"v1": "whsec_", "v1a": "whpk_"}[made.signature]
        assert made.secret.startswith(prefix)
        for text in (repr(made), str(made), f"{made}", repr(client.webhooks.list())):
            assert made.id in text
            assert prefix not in text
        client.webhooks.delete(made.id)
    # Neither by an error about an answer that has it.
    broken = b'{"secret": "whsec_c2VjcmV0", "id": "i"}'
    with (
        serving(lambda exchange: exchange.answer(201, {}, broken)) as server,
        Onceguard(base_url=url_of(server), token=TOKEN) as given,
        pytest.raises(UnexpectedAnswer) as unexpected,
    ):
        given.webhooks.create(url=url, types=types)
    for error in (unexpected.value, unexpected.value.__cause__):
        assert "whsec_" not in f"{error!r} {error} {vars(error) if error else ''}"


def test_what_cannot_be_done_says_why(client: Onceguard) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        client.webhooks.create(url="ftp://receiver.example", types=[])
    assert [error.pointer for error in invalid.value.errors] == ["/url", "/types"]
    unknown = Key.generate().did
    calls: list[Callable[[], object]] = [
        lambda: client.webhooks.change(unknown),
        lambda: client.webhooks.replay(unknown, event=unknown),
        lambda: client.webhooks.delete(unknown),
        lambda: list(client.webhooks.deliveries(unknown)),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest) as invalid:
            call()
        assert "/v1/webhooks" not in str(invalid.value)
        assert "UUID" in str(invalid.value)
    with Onceguard(base_url=URL, key=Key.generate()) as agent, pytest.raises(Forbidden):
        agent.webhooks.list()


@each_way
def test_what_changes_webhooks_is_sent_once(client: Onceguard, when: When) -> None:
    mark = f"https://receiver.example/{fresh_type()}"

    def ours() -> dict[str, str]:
        return {each.id: each.url for each in client.webhooks.list() if mark in each.url}

    before = client.webhooks.create(url=mark, types=["*"])
    now = datetime.now(timezone.utc)
    cutting = Cutting(when)
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN) as lossy:
        changes: list[Callable[[], object]] = [
            lambda: lossy.webhooks.create(url=f"{mark}/new", types=["*"]),
            lambda: lossy.webhooks.change(before.id, url=f"{mark}/changed"),
            lambda: lossy.webhooks.replay(before.id, since=now),
            lambda: lossy.webhooks.delete(before.id),
        ]
        for change in changes:
            with pytest.raises(NoAnswer) as lost:
                change()
            assert lost.value.attempts == 1
        assert cutting.received == len(changes)
        left = list(ours().values())
        assert left == ([mark] if when == "before" else [f"{mark}/new"])
        # Reads are repeated.
        assert {each.id for each in lossy.webhooks.list()} >= ours().keys()
        for webhook_id in ours():
            assert list(lossy.webhooks.deliveries(webhook_id)) == []
            client.webhooks.delete(webhook_id)
    assert cutting.received == len(changes) + 4


def test_the_asyncio_client_makes_every_call() -> None:
    receiver, kind = Receiver(), fresh_type()

    async def run(url: str) -> None:
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as asyncio_client:
            webhooks = asyncio_client.webhooks
            made = await webhooks.create(url=url, types=[kind], signature="v1")
            assert made.secret not in repr(made)
            event = await asyncio_client.events.publish(NewEvent(type=kind, subject="s"))

            async def delivered() -> list[str]:
                found = webhooks.deliveries(made.id, state="delivered", page_size=1)
                return [delivery.event async for delivery in found]

            async def wait_until_sent(times: int) -> None:
                end = time.monotonic() + 90
                while receiver.ids.count(event) < times or await delivered() != [event]:
                    assert time.monotonic() < end, "it never came"
                    await asyncio.sleep(0.02)

            await wait_until_sent(1)
            await webhooks.replay(made.id, event=event)
            await wait_until_sent(2)
            an_hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
            await webhooks.replay(made.id, since=an_hour_ago)
            await wait_until_sent(3)
            assert (await webhooks.change(made.id, paused=True)).state == "paused"
            assert made.id in {each.id for each in await webhooks.list()}
            await webhooks.delete(made.id)
            assert made.id not in {each.id for each in await webhooks.list()}

    with serving(receiver) as server:
        asyncio.run(run(url_of(server)))
