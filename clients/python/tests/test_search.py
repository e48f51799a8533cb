"""The search finds stored DIDs and sessions by their words."""

from __future__ import annotations

import asyncio
import json

import pytest

from onceguard import (
    AsyncOnceguard,
    Forbidden,
    Found,
    FoundDid,
    FoundSession,
    InvalidRequest,
    Key,
    Onceguard,
    UnexpectedAnswer,
)

from .support import TOKEN, URL, Cutting, parties, serving, url_of


def store(client: Onceguard, word: str) -> tuple[Key, list[str]]:
    """The key of a DID that has this word, and what has it, newest first."""
    key = Key.generate("P256")
    did = f"did:example:{word}"
    client.dids.store(did, public_key=key.public_key, key_type="P256")
    metadata = {"order": f"{word} lamp", "snake_case": 1}
    opened = [client.sessions.open(**parties(), metadata=metadata).id for _ in range(2)]
    return key, [*opened[::-1], did]


def test_all_that_has_the_words_is_found(client: Onceguard) -> None:
    word = Key.generate().did[-40:]
    key, stored = store(client, word)
    found: list[Found] = list(client.search(word, page_size=1))
    assert [each.id for each in found] == stored
    newest, _, did = found
    assert isinstance(newest, FoundSession)
    assert (newest.kind, newest.state, newest.etag) == ("session", "active", None)
    assert newest.metadata == {"order": f"{word} lamp", "snake_case": 1}
    assert isinstance(did, FoundDid)
    assert (did.kind, did.did, did.public_key) == ("did", did.id, key.public_key)
    sessions = [each.id for each in client.search(f"LAMP, {word.upper()}!")]
    assert sessions == stored[:2], "all words, in upper or lower case"
    assert list(client.search(word[:-1])) == [], "whole words"

    async def run() -> list[str]:
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as asyncio_client:
            return [each.id async for each in asyncio_client.search(word, page_size=2)]

    assert asyncio.run(run()) == stored


def test_a_search_whose_answer_is_lost_is_repeated(client: Onceguard) -> None:
    word = Key.generate().did[-40:]
    _, stored = store(client, word)
    cutting = Cutting("after")
    with cutting.running() as url, Onceguard(base_url=url, token=TOKEN) as lossy:
        assert [each.id for each in lossy.search(word, page_size=2)] == stored
    assert (cutting.cut, cutting.received) == (2, 4), "two pages"


def test_what_cannot_be_searched_says_why(client: Onceguard) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        list(client.search("?"))
    assert "must have a word" in str(invalid.value)
    with Onceguard(base_url=URL, key=Key.generate()) as agent, pytest.raises(Forbidden):
        list(agent.search("shop"))


def test_a_kind_that_is_newer_than_the_client_is_an_error() -> None:
    for item in ({"kind": "record", "id": "i"}, {"id": "i"}, "record"):
        page = json.dumps({"items": [item], "next_cursor": None}).encode()
        with (
            serving(lambda exchange, page=page: exchange.answer(200, {}, page)) as server,  # type: ignore[misc]
            Onceguard(base_url=url_of(server), token=TOKEN) as client,
            pytest.raises(UnexpectedAnswer, match="kind"),
        ):
            list(client.search("shop"))
