"""Events are published once, and read in an order that skips none; and the list of instances."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from onceguard import (
    AsyncOnceguard,
    CursorExpired,
    Forbidden,
    InvalidRequest,
    Key,
    NewEvent,
    Onceguard,
    OutcomeUnknown,
)

from .support import TOKEN, URL, Cutting, Exchange, serving, url_of
from .test_retries import Answers, When, each_way

SOME = 20
#: A minute and more of waiting, where the instance is slow.
PAGES = 6000


def fresh_type() -> str:
    """A type that no other test has."""
    return f"com.example.{Key.generate().did[-40:]}"


def followed(
    client: Onceguard,
    kind: str,
    count: int,
    since: str | None = None,
    page_size: int | None = None,
) -> tuple[list[str | None], str]:
    """The subjects of so many events, which an instance links soon after they were published."""
    subjects: list[str | None] = []
    cursor = ""
    pages = client.events.follow(type=kind, since=since, wait=0.01, page_size=page_size)
    for _, page in zip(range(PAGES), pages, strict=False):
        subjects += [event.subject for event in page.items]
        cursor = page.next_cursor
        if len(subjects) >= count:
            break
    return subjects, cursor


def test_what_is_published_can_be_read(client: Onceguard) -> None:
    kind = fresh_type()
    data = {"amount": 5, "snake_case": {"camelCase": [1, None]}}
    one = client.events.publish(NewEvent(type=kind, subject="order 7", data=data))
    many = client.events.publish(
        [NewEvent(type=kind, subject="order 8"), NewEvent(type=kind, subject="order 9", data={})]
    )
    assert followed(client, kind, 3)[0] == ["order 7", "order 8", "order 9"]
    first, second, third = client.events.list(type=kind, page_size=2)
    assert (first.id, second.id, third.id) == (one, *many)
    assert (first.type, first.subject, first.outcome) == (kind, "order 7", "success")
    assert first.data == data
    assert first.request_id is not None
    assert first.sequence < second.sequence < third.sequence
    [found] = client.events.list(type=kind, subject="order 8")
    assert found == second
    chosen = client.events.list(
        type=kind, actor=first.actor, outcome="success", from_=second.at, page_size=1
    )
    assert [event.id for event in chosen] == list(many)
    assert list(client.events.list(type=kind, to=first.at)) == []
    assert list(client.events.list(type=kind, outcome="nonce_replayed")) == []


def test_a_follower_goes_on_where_it_ended_and_sees_each_event_once(client: Onceguard) -> None:
    kind = fresh_type()
    _, since = followed(client, kind, 0)
    seen: list[str | None] = []
    for n in range(SOME):
        client.events.publish(NewEvent(type=kind, subject=str(n)))
        if n % 7 == 0:
            subjects, since = followed(client, kind, 1, since, page_size=1)
            seen += subjects
    subjects, since = followed(client, kind, SOME - len(seen), since, page_size=3)
    assert seen + subjects == [str(n) for n in range(SOME)]


@each_way
def test_an_event_whose_answer_is_lost_is_written_once(client: Onceguard, when: When) -> None:
    kind = fresh_type()
    cutting = Cutting(when)
    one = NewEvent(type=kind, subject="one")
    many = [NewEvent(type=kind, subject="many")] * SOME
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN) as lossy:
        published = [lossy.events.publish(one) for _ in range(SOME)]
        published += lossy.events.publish(many)

        async def run() -> None:
            async with AsyncOnceguard(base_url=url, token=TOKEN) as lossy:
                published.append(await lossy.events.publish(one))
                published.extend(await lossy.events.publish(many))

        asyncio.run(run())
    assert (cutting.cut, cutting.received) == (SOME + 3, 2 * (SOME + 3))
    followed(client, kind, 3 * SOME + 1)
    assert [event.id for event in client.events.list(type=kind)] == published


def test_the_asyncio_client_reads_and_follows(client: Onceguard) -> None:
    kind = fresh_type()

    async def run() -> None:
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as asyncio_client:
            events = asyncio_client.events
            ids = await events.publish([NewEvent(type=kind, subject=str(n)) for n in range(5)])
            seen: list[str] = []
            pages = events.follow(type=kind, page_size=2, wait=0.01)
            for _ in range(PAGES):
                page = await anext(pages)
                seen += [event.id for event in page.items]
                if len(seen) >= len(ids):
                    break
            assert seen == list(ids)
            assert [event.id async for event in events.list(type=kind, page_size=2)] == seen
            listed = [instance async for instance in asyncio_client.instances.list(page_size=1)]
            assert listed[0].state == "active"

    asyncio.run(run())
    assert len(list(client.events.list(type=kind))) == 5


def test_an_outcome_that_stays_unknown_leaves_the_key_to_publish_with() -> None:
    answers = Answers((503, {}, "outcome_unknown"))
    event = NewEvent(type="com.example.a", subject="s")
    with serving(answers) as server, Onceguard(base_url=url_of(server), token=TOKEN) as client:
        with pytest.raises(OutcomeUnknown) as unknown:
            client.events.publish(event)
        own = unknown.value.idempotency_key
        assert len(own or "") >= 22
        with pytest.raises(OutcomeUnknown):
            client.events.publish([event], idempotency_key=own)
    assert answers.keys == [own] * 6


def test_what_cannot_be_published_says_why(client: Onceguard) -> None:
    ours = NewEvent(type="onceguard.did.revoked", subject="s")
    with pytest.raises(InvalidRequest):
        client.events.publish(ours)
    kind = fresh_type()
    with pytest.raises(InvalidRequest) as invalid:
        client.events.publish([NewEvent(type=kind, subject="s"), ours])
    assert [error.pointer for error in invalid.value.errors] == ["/events/1/type"]
    client.events.publish(NewEvent(type=kind, subject="later"))
    assert followed(client, kind, 1)[0] == ["later"], "all or none"
    with pytest.raises(InvalidRequest):
        client.events.publish([])
    with Onceguard(base_url=URL, key=Key.generate()) as agent, pytest.raises(Forbidden):
        agent.events.publish(NewEvent(type=kind, subject="s"))


class Log:
    """A service with a log: events and empty pages by turns, and a cursor that expires."""

    EVENT: dict[str, Any] = {  # noqa: RUF012 - nothing changes it
        "id": "i",
        "sequence": 1,
        "type": "t",
        "source": "s",
        "subject": None,
        "actor": None,
        "outcome": "success",
        "request_id": None,
        "at": "2026-01-02T03:04:05Z",
        "data": {},
    }

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def __call__(self, exchange: Exchange) -> None:
        query = parse_qs(urlsplit(exchange.path).query)
        self.asked.append(query.get("since", [None])[0])
        n = len(self.asked)
        if n == 6:
            problem = {"code": "cursor_expired", "detail": "d", "request_id": "r"}
            exchange.answer(410, {}, json.dumps(problem).encode())
        else:
            items = [self.EVENT] if n % 3 == 1 else []
            page = {"items": items, "next_cursor": f"c{n}"}
            exchange.answer(200, {}, json.dumps(page).encode())


def test_a_follower_waits_where_there_is_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    log = Log()
    with serving(log) as server, Onceguard(base_url=url_of(server), token=TOKEN) as client:
        monkeypatch.setattr("onceguard.transport.time.sleep", pauses.append)
        pages = client.events.follow()
        assert [len(next(pages).items) for _ in range(3)] == [1, 0, 0]
        assert pauses == [1.0], "not after the last page that is wanted"
        pages = client.events.follow(since="kept", wait=77)
        assert [len(next(pages).items) for _ in range(2)] == [1, 0]
        with pytest.raises(CursorExpired) as expired:
            next(pages)
    assert expired.value.attempts == 1
    assert log.asked == [None, "c1", "c2", "kept", "c4", "c5"]
    assert pauses == [1.0, 77]


def test_the_asyncio_client_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    log = Log()

    async def run(url: str) -> None:
        async with AsyncOnceguard(base_url=url, token=TOKEN) as client:
            pages = client.events.follow(since="kept", wait=77)
            assert [len((await anext(pages)).items) for _ in range(5)] == [1, 0, 0, 1, 0]
            with pytest.raises(CursorExpired):
                await anext(pages)

    with serving(log) as server:
        monkeypatch.setattr("onceguard.transport.asyncio.sleep", nap)
        asyncio.run(run(url_of(server)))
    assert log.asked == ["kept", "c1", "c2", "c3", "c4", "c5"]
    assert pauses == [77] * 3


def test_the_instances_are_listed(client: Onceguard) -> None:
    latest = next(iter(client.instances.list(page_size=1)))
    assert latest.state == "active"
    assert latest.ended_at is None
    assert latest.started_at <= latest.heartbeat_at
    assert latest.version == client.stats().version
