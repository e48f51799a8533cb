"""The retry rule: no lost answer reads as a replay, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from onceguard import (
    AsyncOnceguard,
    Key,
    NoAnswer,
    Onceguard,
    OutcomeUnknown,
    RateLimited,
    SessionClaim,
    SignatureReplayed,
    Unavailable,
    sign_request,
)

from .support import CALLS, TOKEN, Cutting, Exchange, parties, serving, url_of

SOME = CALLS // 4
AT_ONCE = 16

When = Literal["before", "after"]
each_way = pytest.mark.parametrize("when", ["before", "after"])


def open_session(client: Onceguard) -> str:
    return client.sessions.open(**parties()).id


@each_way
def test_many_claims_whose_answer_is_lost(client: Onceguard, when: When) -> None:
    session = open_session(client)
    cutting = Cutting(when)
    with (
        cutting.running() as url,
        Onceguard(base_url=url, token=TOKEN, timeout=60) as lossy,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        claims = pool.map(lambda n: lossy.sessions.claim(session, f"n{n}"), range(CALLS))
        # A replay would be raised here.
        assert [claim.nonce for claim in claims] == [f"n{n}" for n in range(CALLS)]
    assert (cutting.cut, cutting.received) == (CALLS, 2 * CALLS)
    results = client.claims.create([SessionClaim(session, f"n{n}") for n in range(CALLS)])
    assert {result.outcome for result in results} == {"replayed"}


@each_way
def test_claims_of_the_asyncio_client(client: Onceguard, when: When) -> None:
    session = open_session(client)
    cutting = Cutting(when)

    async def run(url: str) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        async with AsyncOnceguard(base_url=url, token=TOKEN, timeout=60) as lossy:

            async def claim(n: int) -> None:
                async with places:
                    await lossy.sessions.claim(session, f"n{n}")

            await asyncio.gather(*(claim(n) for n in range(SOME)))

    with cutting.running() as url:
        asyncio.run(run(url))
    assert (cutting.cut, cutting.received) == (SOME, 2 * SOME)


@each_way
def test_many_claims_in_batches(client: Onceguard, when: When) -> None:
    session = open_session(client)
    cutting = Cutting(when)
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN, timeout=60) as lossy:
        for start in range(0, CALLS, 100):
            batch = [SessionClaim(session, f"n{n}") for n in range(start, start + 100)]
            assert all(result.accepted for result in lossy.claims.create(batch))
    assert cutting.cut == CALLS // 100


@each_way
def test_many_verdicts_whose_answer_is_lost(when: When) -> None:
    key = Key.generate()
    url = "https://shop.example/orders"
    signed = [sign_request(key, method="GET", url=url) for _ in range(CALLS)]
    cutting = Cutting(when)
    with (
        cutting.running() as lossy_url,
        Onceguard(base_url=lossy_url, token=TOKEN, timeout=60) as lossy,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def verify(headers: dict[str, str]) -> str:
            return lossy.verify(method="GET", url=url, headers=headers).did

        # A replay would be raised here.
        assert set(pool.map(verify, signed)) == {key.did}
        assert (cutting.cut, cutting.received) == (CALLS, 2 * CALLS)

        # A copy has a key of its own: it is a replay, also when that answer is lost.
        def copied(headers: dict[str, str]) -> bool:
            with pytest.raises(SignatureReplayed):
                verify(headers)
            return True

        assert all(pool.map(copied, signed))


@each_way
def test_each_opening_opens_one_session(client: Onceguard, when: When) -> None:
    pair = parties()
    cutting = Cutting(when)
    with (
        cutting.running() as url,
        Onceguard(base_url=url, token=TOKEN, timeout=60) as lossy,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        opened = list(pool.map(lambda _: lossy.sessions.open(**pair).id, range(SOME)))
    listed = [session.id for session in client.sessions.list(**pair, page_size=500)]
    assert len(listed) == SOME
    assert sorted(opened) == sorted(listed)


@each_way
def test_what_is_not_safe_to_repeat_is_sent_once(client: Onceguard, when: When) -> None:
    session = open_session(client)
    key = Key.generate()
    cutting = Cutting(when)
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN) as lossy:
        calls: list[Callable[[], object]] = [
            lambda: lossy.sessions.touch(session),
            lambda: lossy.sessions.change(session, ttl_seconds=60),
            lambda: lossy.sessions.open(
                client_did=key.did, server_did=key.did, id=session[:-4] + "0000"
            ),
            lambda: lossy.sessions.end(session),
            lambda: lossy.sessions.end_all(client_did=key.did),
            lambda: lossy.dids.refresh(key.did),
            lambda: lossy.dids.revoke("did:example:nobody"),
        ]
        for call in calls:
            with pytest.raises(NoAnswer) as lost:
                call()
            assert lost.value.attempts == 1
    assert cutting.received == len(calls)


def test_an_agent_repeats_a_claim_under_a_new_signature(client: Onceguard) -> None:
    key = Key.generate()
    cutting = Cutting("after")
    with cutting.running() as url, Onceguard(base_url=url, key=key) as agent:
        session = agent.sessions.open(client_did=key.did, server_did=Key.generate().did)
        agent.sessions.claim(session.id, "n")
    assert cutting.received == 6, "open, read and claim, each twice"
    assert client.sessions.used(session.id, "n") is not None


class Answers:
    """A service that gives these answers, the last one for ever."""

    def __init__(self, *answers: tuple[int, dict[str, str], str]) -> None:
        self._answers = list(answers)
        self.keys: list[str | None] = []

    def __call__(self, exchange: Exchange) -> None:
        self.keys.append(exchange.headers.get("Idempotency-Key"))
        status, headers, code = self._answers[min(len(self.keys), len(self._answers)) - 1]
        problem = {"code": code, "detail": "d", "title": "t", "request_id": "r", "status": status}
        accepted = {
            "nonce": "n",
            "session_id": "s",
            "used_at": "2026-01-02T03:04:05.000001Z",
            "expires_at": "2026-01-02T03:04:05Z",
        }
        body = accepted if status == 201 else problem
        exchange.answer(status, headers, json.dumps(body).encode())


def test_an_unknown_outcome_is_resolved_under_the_same_key() -> None:
    answers = Answers((503, {}, "outcome_unknown"), (502, {}, ""), (201, {}, ""))
    with serving(answers) as server, Onceguard(base_url=url_of(server), token=TOKEN) as client:
        client.sessions.claim("s", "n")
    assert len(answers.keys) == 3
    assert len(set(answers.keys)) == 1
    assert len(answers.keys[0] or "") >= 22


def test_an_outcome_that_stays_unknown_leaves_the_key_to_repeat_it_with() -> None:
    answers = Answers((503, {}, "outcome_unknown"))
    with serving(answers) as server, Onceguard(base_url=url_of(server), token=TOKEN) as client:
        with pytest.raises(OutcomeUnknown) as unknown:
            client.sessions.claim("s", "n")
        assert unknown.value.attempts == 3
        assert set(answers.keys) == {unknown.value.idempotency_key}
        with pytest.raises(OutcomeUnknown):
            client.sessions.claim("s", "n", idempotency_key="mine")
        assert answers.keys[3:] == ["mine"] * 3
        with pytest.raises(OutcomeUnknown) as unknown:
            client.verify(method="GET", url="https://shop.example/", headers={})
        own = unknown.value.idempotency_key
        assert own not in (None, "mine", answers.keys[0])
        assert answers.keys[6:] == [own] * 3
        with pytest.raises(OutcomeUnknown):
            client.verify(method="GET", url="https://s.example/", headers={}, idempotency_key=own)
    assert answers.keys[9:] == [own] * 3


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [
        ((503, {"Retry-After": "1"}, "overloaded"), 3),
        ((429, {"Retry-After": "1"}, "rate_limited"), 3),
        # Waiting does not help, or the wait is the caller's to decide.
        ((429, {}, "rate_limited"), 1),
        ((429, {"Retry-After": "60"}, "rate_limited"), 1),
        ((503, {"Retry-After": "60"}, "storage_unavailable"), 1),
    ],
)
def test_what_is_repeated(answer: tuple[int, dict[str, str], str], attempts: int) -> None:
    pauses: list[float] = []
    answers = Answers(answer)
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(answers) as server,
        Onceguard(base_url=url_of(server), token=TOKEN) as client,
    ):
        patch.setattr("onceguard.transport.time.sleep", pauses.append)
        with pytest.raises((Unavailable, RateLimited)) as refused:
            client.sessions.read("s")
    assert refused.value.attempts == len(answers.keys) == attempts
    after = answer[1].get("Retry-After")
    assert refused.value.retry_after == (None if after is None else float(after))
    assert all(pause >= 1 for pause in pauses), "never earlier than asked"
