"""Sealed records and erasure: each call, and what a lost answer does to a write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Literal

import httpx
import pytest

from onceguard import (
    AsyncOnceguard,
    CursorExpired,
    Forbidden,
    InvalidRequest,
    Key,
    NewRecord,
    NoAnswer,
    NotFound,
    Onceguard,
    PreconditionFailed,
    RecordDelete,
    RecordPut,
    Unavailable,
)

from .support import TOKEN, URL, Cutting, Exchange, serving, url_of

SOME = 100
each_way = pytest.mark.parametrize("when", ["before", "after"])


def sealed(content: bytes = b"sealed") -> NewRecord:
    return NewRecord(iv=os.urandom(12), ciphertext=content)


@pytest.fixture
def did() -> str:
    """An owner that no other test has."""
    return Key.generate().did


def put(record_id: str, content: bytes = b"sealed", if_match: str | None = None) -> RecordPut:
    return RecordPut(kind="sync", id=record_id, record=sealed(content), if_match=if_match)


def test_a_record_from_its_writing_to_its_deletion(client: Onceguard, did: str) -> None:
    now = datetime.now(timezone.utc)
    new = NewRecord(
        iv=os.urandom(12),
        ciphertext=bytes(range(256)),
        client_time=now,
        metadata={"device": "laptop", "snake_case": {"n": 1}},
        expires_at=now + timedelta(hours=1),
    )
    written = client.records.put(did, "sync", "a/b~", new)
    assert (written.kind, written.id, written.version, written.size) == ("sync", "a/b~", 1, 256)
    read = client.records.read(did, "sync", "a/b~")
    assert (read.iv, read.ciphertext, read.checksum) == (new.iv, new.ciphertext, new.checksum)
    assert (read.metadata, read.client_time) == (new.metadata, new.client_time)
    assert (read.expires_at, read.etag) == (new.expires_at, written.etag)
    assert written.etag is not None

    assert client.records.read_if_changed(did, "sync", "a/b~", written.etag) is None
    with pytest.raises(PreconditionFailed):
        client.records.put(did, "sync", "a/b~", sealed())
    newer = client.records.put(did, "sync", "a/b~", sealed(b"newer"), if_match=written.etag)
    assert newer.version == 2
    with pytest.raises(PreconditionFailed) as stale:
        client.records.put(did, "sync", "a/b~", sealed(), if_match=written.etag)
    assert stale.value.attempts == 1
    changed = client.records.read_if_changed(did, "sync", "a/b~", written.etag)
    assert changed is not None
    assert changed.ciphertext == b"newer"
    client.records.put(did, "sync", "a/b~", sealed(b"any"), if_match="*")

    with pytest.raises(PreconditionFailed):
        client.records.delete(did, "sync", "a/b~", if_match=written.etag)
    client.records.delete(did, "sync", "a/b~", if_match="*")
    with pytest.raises(NotFound) as gone:
        client.records.read(did, "sync", "a/b~")
    assert gone.value.code == "record_not_found"


def test_a_batch_changes_all_or_nothing(client: Onceguard, did: str) -> None:
    one, two = client.records.change(did, [put("1"), put("2")])
    assert (one.id, two.id, one.deleted) == ("1", "2", None)
    assert one.etag is not None
    assert two.etag is not None
    with pytest.raises(PreconditionFailed) as refused:
        client.records.change(did, [put("3"), put("1")])
    assert [error.pointer for error in refused.value.errors] == ["/operations/1"]
    with pytest.raises(NotFound):
        client.records.read(did, "sync", "3")
    replaced, deleted = client.records.change(
        did,
        [put("1", b"newer", one.etag), RecordDelete(kind="sync", id="2", if_match=two.etag)],
    )
    assert (replaced.version, deleted.deleted, deleted.etag) == (2, True, None)


def test_changes_are_followed_page_by_page(client: Onceguard, did: str) -> None:
    assert list(client.records.list(did)) == []
    client.records.change(did, [put(str(n)) for n in range(5)])
    pages = list(client.records.follow(did, page_size=2))
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert [page.has_more for page in pages] == [True, True, False]
    seen = [record for page in pages for record in page.items]
    assert [record.id for record in seen] == ["0", "1", "2", "3", "4"]
    assert seen[0].ciphertext == b"sealed"

    etag = seen[3].etag
    assert etag is not None
    client.records.delete(did, "sync", "3", if_match=etag)
    [since] = client.records.follow(did, since=pages[-1].next_cursor)
    assert [(record.id, record.deleted) for record in since.items] == [("3", True)]
    assert [record.id for record in client.records.list(did, page_size=2)] == ["0", "1", "2", "4"]

    marked = NewRecord(iv=os.urandom(12), ciphertext=b"x", metadata={"device": "phone"})
    for name in ("m1", "m2"):
        client.records.put(did, "backup", name, marked)
    found = client.records.list(did, metadata={"device": "phone"}, contents=False, page_size=1)
    assert [(record.id, record.iv) for record in found] == [("m1", None), ("m2", None)]
    assert [record.id for record in client.records.list(did, kind="backup")] == ["m1", "m2"]

    usage = client.records.usage(did)
    assert (usage.records, usage.kinds) == (7, {"sync": 4, "backup": 2})
    assert usage.bytes == 4 * len(b"sealed") + 2
    assert client.records.delete_all(did) == 6
    with pytest.raises(CursorExpired):
        list(client.records.follow(did, since=since.next_cursor))


def test_inactive_owners(client: Onceguard, did: str) -> None:
    client.records.put(did, "sync", "r", sealed())
    # Everything here is of today.
    assert did not in [owner.did for owner in client.records.inactive(1, page_size=1)]
    removed = client.records.delete_inactive(36_500)
    assert (removed.owners, removed.records) == (0, 0)
    with pytest.raises(InvalidRequest):
        client.records.delete_inactive(0)
    inactive = {
        "items": [
            {"did": did, "last_accessed": "2026-01-02T03:00:00Z", "records": 1, "bytes": 2},
        ],
        "next_cursor": None,
    }
    with (
        serving(
            lambda exchange: exchange.answer(200, {}, httpx.Response(200, json=inactive).content)
        ) as server,
        Onceguard(base_url=url_of(server), token=TOKEN) as other,
    ):
        [owner] = other.records.inactive(1)
    assert (owner.did, owner.records, owner.bytes) == (did, 1, 2)


def test_an_agent_reaches_its_own_records(client: Onceguard) -> None:
    key = Key.generate()
    with Onceguard(base_url=URL, key=key) as agent:
        agent.records.put(key.did, "sync", "r/1", sealed())
        assert agent.records.read(key.did, "sync", "r/1").ciphertext == b"sealed"
        assert [record.id for record in agent.records.list(key.did)] == ["r/1"]
        with pytest.raises(Forbidden):
            agent.records.usage(Key.generate().did)
        erased = agent.dids.erase(key.did)
        assert (erased.sessions, erased.records) == (0, 1)
    assert list(client.records.list(key.did)) == []


def test_the_asyncio_client_makes_every_call() -> None:
    async def run() -> None:
        did = Key.generate().did
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as client:
            written = await client.records.put(did, "sync", "r", sealed())
            assert written.etag is not None
            assert (await client.records.read(did, "sync", "r")).etag == written.etag
            assert await client.records.read_if_changed(did, "sync", "r", written.etag) is None
            await client.records.change(did, [put("s")])
            assert [record.id async for record in client.records.list(did)] == ["r", "s"]
            pages = [page async for page in client.records.follow(did, page_size=1)]
            assert [page.has_more for page in pages] == [True, False]
            assert (await client.records.usage(did)).records == 2
            await client.records.delete(did, "sync", "r", if_match=written.etag)
            assert await client.records.delete_all(did) == 1
            assert [owner async for owner in client.records.inactive(36_500)] == []
            assert (await client.records.delete_inactive(36_500)).owners == 0
            assert (await client.dids.erase(did)).records == 0

    asyncio.run(run())


@each_way
def test_each_write_is_made_once(
    client: Onceguard, did: str, when: Literal["before", "after"]
) -> None:
    """Also where the first answer is lost: no version is skipped, and none is doubled."""
    cutting = Cutting(when)
    with (
        cutting.running() as url,
        Onceguard(base_url=url, token=TOKEN, timeout=60) as lossy,
        ThreadPoolExecutor(8) as pool,
    ):

        def write(n: int) -> None:
            first, second = sealed(b"1"), sealed(b"2")
            written = lossy.records.put(did, "sync", str(n), first)
            assert client.records.read(did, "sync", str(n)).etag == written.etag
            newer = lossy.records.put(did, "sync", str(n), second, if_match=written.etag)
            assert (written.version, newer.version, newer.size) == (1, 2, 1)
            assert newer.etag is not None
            lossy.records.delete(did, "sync", str(n), if_match=newer.etag)

        list(pool.map(write, range(SOME)))
        results = lossy.records.change(did, [put("x"), put("y")])
        assert [(each.id, each.version) for each in results] == [("x", 1), ("y", 1)]
    assert [record.id for record in client.records.list(did)] == ["x", "y"]
    # Each change took one number.
    assert results[1].sequence == 3 * SOME + 2


def test_what_another_device_wrote_meanwhile_is_not_ours(client: Onceguard, did: str) -> None:
    """Before a lost answer is asked for again, another device has replaced the record."""

    def overtaken(exchange: Exchange) -> None:
        if exchange.command == "PUT" and not seen:
            seen.append(exchange.path)
            headers = {name: exchange.headers[name] for name in ("Authorization", "If-None-Match")}
            made = httpx.put(
                URL + exchange.path,
                content=exchange.body,
                headers={**headers, "Content-Type": "application/json"},
            )
            client.records.put(did, "sync", "r", sealed(b"theirs"), if_match=made.headers["ETag"])
            exchange.cut()
            return
        answer = httpx.request(
            exchange.command,
            URL + exchange.path,
            content=exchange.body,
            headers=dict(exchange.headers.items()),
        )
        exchange.answer(answer.status_code, {}, answer.content)

    seen: list[str] = []
    with serving(overtaken) as server, Onceguard(base_url=url_of(server), token=TOKEN) as lossy:
        with pytest.raises(PreconditionFailed) as refused:
            lossy.records.put(did, "sync", "r", sealed(b"ours"))
        assert refused.value.attempts == 2
    assert client.records.read(did, "sync", "r").ciphertext == b"theirs"


@each_way
def test_what_could_undo_the_work_of_others_is_sent_once(
    client: Onceguard, did: str, when: Literal["before", "after"]
) -> None:
    etag = client.records.put(did, "sync", "r", sealed()).etag
    assert etag is not None
    cutting = Cutting(when)
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN) as lossy:
        deletion = RecordDelete(kind="sync", id="r", if_match=etag)
        calls: list[Callable[[], object]] = [
            lambda: lossy.records.change(did, [deletion]),
            lambda: lossy.records.change(did, [put("r", b"x", "*")]),
            lambda: lossy.records.put(did, "sync", "r", sealed(), if_match="*"),
            lambda: lossy.records.delete(did, "sync", "r", if_match="*"),
            lambda: lossy.records.delete_all(did),
            lambda: lossy.records.delete_inactive(36_500),
            lambda: lossy.dids.erase(did),
        ]
        for call in calls:
            with pytest.raises(NoAnswer) as lost:
                call()
            assert lost.value.attempts == 1
    assert cutting.received == len(calls)


def test_a_write_whose_outcome_stays_unknown_is_no_success(did: str) -> None:
    with (
        serving(lambda exchange: exchange.answer(503, {}, b"{}")) as server,
        Onceguard(base_url=url_of(server), token=TOKEN) as client,
        pytest.raises(Unavailable) as unknown,
    ):
        client.records.put(did, "sync", "r", sealed())
    assert unknown.value.attempts == 3
