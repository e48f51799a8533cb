"""Each call, against the real service."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from onceguard import (
    AsyncOnceguard,
    CannotSign,
    ClaimQuotaReached,
    CursorExpired,
    DidRevoked,
    Forbidden,
    InvalidRequest,
    IssuedBeforeRestore,
    Key,
    NamespaceClaim,
    NonceReplayed,
    NotFound,
    Onceguard,
    OnceguardError,
    PreconditionFailed,
    RecordQuotaReached,
    SessionClaim,
    SessionEnded,
    SessionExists,
    SignerClaim,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from onceguard.errors import of_answer

from .support import TOKEN, URL, parties, serving, url_of


def test_a_session_from_its_opening_to_its_end(client: Onceguard) -> None:
    pair = parties()
    opened = client.sessions.open(
        **pair,
        session_key=b"\x00secret",
        ttl_seconds=600,
        idle_timeout_seconds=60,
        max_claims=9,
        metadata={"purpose": "test", "snake_case": {"camelCase": [1, None]}},
    )
    assert (opened.client_did, opened.server_did) == (pair["client_did"], pair["server_did"])
    assert opened.state == "active"
    assert opened.expires_at - opened.created_at == timedelta(seconds=600)
    assert opened.metadata == {"purpose": "test", "snake_case": {"camelCase": [1, None]}}
    assert client.sessions.key(opened.id) == b"\x00secret"
    assert client.sessions.read(opened.id).id == opened.id
    client.sessions.touch(opened.id)

    changed = client.sessions.change(opened.id, metadata={}, if_match=opened.etag)
    assert changed.metadata == {}
    assert changed.etag != opened.etag
    with pytest.raises(PreconditionFailed):
        client.sessions.change(opened.id, ttl_seconds=60, if_match=opened.etag)

    client.sessions.end(opened.id)
    with pytest.raises(SessionEnded) as ended:
        client.sessions.read(opened.id)
    assert ended.value.problem["end_reason"] == "ended"
    [listed] = client.sessions.list(client_did=pair["client_did"], state="ended")
    assert (listed.state, listed.end_reason, listed.etag) == ("ended", "ended", None)


def test_a_list_goes_over_all_pages(client: Onceguard) -> None:
    pair = parties()
    opened = [client.sessions.open(**pair).id for _ in range(5)]
    listed = client.sessions.list(server_did=pair["server_did"], page_size=2)
    assert [session.id for session in listed] == opened[::-1]
    assert client.sessions.end_all(client_did=pair["client_did"]) == 5
    assert list(client.sessions.list(client_did=pair["client_did"])) == []


def test_a_chosen_id_is_taken_once(client: Onceguard) -> None:
    opened = client.sessions.open(**parties())
    with pytest.raises(SessionExists):
        client.sessions.open(**parties(), id=opened.id)


def test_a_nonce_is_accepted_once(client: Onceguard) -> None:
    session = client.sessions.open(**parties(), max_claims=2)
    assert client.sessions.used(session.id, "a/b") is None
    accepted = client.sessions.claim(session.id, "a/b")
    assert (accepted.nonce, accepted.session_id) == ("a/b", session.id)
    with pytest.raises(NonceReplayed) as replayed:
        client.sessions.claim(session.id, "a/b")
    assert replayed.value.first_used_at == accepted.used_at
    used = client.sessions.used(session.id, "a/b")
    assert used is not None
    assert used.used_at == accepted.used_at
    client.sessions.claim(session.id, "second")
    with pytest.raises(ClaimQuotaReached) as full:
        client.sessions.claim(session.id, "third")
    assert (full.value.retry_after, full.value.attempts) == (None, 1), "waiting does not mend it"


def test_claims_are_decided_each_on_its_own(client: Onceguard) -> None:
    session = client.sessions.open(**parties())
    now = datetime.now(timezone.utc)
    signed = SignerClaim(
        signer=Key.generate().did,
        nonce="one",
        expires_at=now + timedelta(minutes=1),
        issued_at=now - timedelta(seconds=1),
    )
    soon = now + timedelta(minutes=1)
    claims: list[SessionClaim | SignerClaim | NamespaceClaim] = [
        SessionClaim(session.id, "one"),
        SessionClaim(session.id, "one"),
        signed,
        NamespaceClaim(namespace=session.id, nonce="one", expires_at=soon),
        NamespaceClaim(namespace=session.id, nonce=b"one", expires_at=soon, issued_at=now),
        NamespaceClaim(namespace=session.id, nonce=b"\x00\xff", expires_at=soon),
    ]
    results = client.claims.create(claims, idempotency_key="0123456789abcdef" + session.id)
    outcomes = ["accepted", "replayed", "accepted", "accepted", "replayed", "accepted"]
    assert [result.outcome for result in results] == outcomes
    assert [result.accepted for result in results] == [each == "accepted" for each in outcomes]
    assert results[1].first_used_at == results[0].used_at
    again = client.claims.create(claims, idempotency_key="0123456789abcdef" + session.id)
    assert again == results


def test_an_id_is_accepted_once_in_a_namespace(client: Onceguard) -> None:
    namespace = f"https://shop.example/{Key.generate().did}"
    soon = datetime.now(timezone.utc) + timedelta(minutes=1)
    assert client.namespaces.used(namespace, "a/b") is None
    accepted = client.namespaces.claim(namespace, "a/b", expires_at=soon)
    assert (accepted.namespace, accepted.expires_at) == (namespace, soon)
    for copy in ("a/b", b"a/b"):
        with pytest.raises(NonceReplayed) as replayed:
            client.namespaces.claim(namespace, copy, expires_at=soon)
        assert replayed.value.first_used_at == accepted.used_at
    issued_at = datetime.now(timezone.utc) - timedelta(seconds=1)
    client.namespaces.claim(namespace, b"\x00\xff", expires_at=soon, issued_at=issued_at)
    used = client.namespaces.used(namespace, "a/b")
    assert used is not None
    assert used.used_at == accepted.used_at
    assert client.namespaces.read(namespace).live == 2
    key = "0123456789abcdef" + namespace[8:60]
    once = client.namespaces.claim(namespace, "c", expires_at=soon, idempotency_key=key)
    assert client.namespaces.claim(namespace, "c", expires_at=soon, idempotency_key=key) == once


def test_the_asyncio_client_claims_in_a_namespace() -> None:
    async def run() -> None:
        namespace = parties()["client_did"]
        soon = datetime.now(timezone.utc) + timedelta(minutes=1)
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as client:
            assert await client.namespaces.used(namespace, "n") is None
            accepted = await client.namespaces.claim(namespace, "n", expires_at=soon)
            used = await client.namespaces.used(namespace, "n")
            assert used is not None
            assert used.used_at == accepted.used_at
            assert (await client.namespaces.read(namespace)).live == 1

    asyncio.run(run())


def test_dids(client: Onceguard) -> None:
    key = Key.generate("P256")
    did = f"did:example:{key.did.rpartition(':')[2]}"
    with pytest.raises(NotFound):
        client.dids.read(did)
    stored = client.dids.store(
        did, public_key=key.public_key, key_type="P256", owner_address=key.did[-40:]
    )
    assert (stored.public_key, stored.key_type) == (key.public_key, "P256")
    read = client.dids.read(did, max_age=60)
    assert read.verification_methods is not None
    assert [method.public_key for method in read.verification_methods] == [key.public_key]
    assert client.dids.refresh(did).public_key == key.public_key
    [listed] = client.dids.list(owner_address=key.did[-40:], revoked=False, page_size=1)
    assert listed.did == did
    client.dids.forget(did)
    revocation = client.dids.revoke(did)
    assert (revocation.did, revocation.sessions_ended) == (did, 0)
    with pytest.raises(DidRevoked):
        client.sessions.open(client_did=did, server_did=key.did)


def test_identifiers(client: Onceguard) -> None:
    key = Key.generate()
    assert client.identifiers.resolve(key.did)["didDocument"]["id"] == key.did
    missing = client.identifiers.resolve("did:nosuchmethod:a")
    assert missing["didDocument"] is None
    assert "error" in missing["didResolutionMetadata"]
    assert "key" in client.identifiers.methods()
    assert "key" in client.identifiers.properties()


def test_stats(client: Onceguard) -> None:
    stats = client.stats()
    assert stats.backend in ("sqlite", "postgresql")
    assert stats.started_at < datetime.now(timezone.utc)
    assert {table.name for table in stats.database.tables} >= {"sessions"}


def test_an_agent_calls_by_its_key() -> None:
    for key_type in ("Ed25519", "P256", "Secp256k1"):
        key = Key.generate(key_type)
        with Onceguard(base_url=URL, key=key) as agent:
            session = agent.sessions.open(client_did=key.did, server_did=Key.generate().did)
            agent.sessions.claim(session.id, "n")
            assert [each.id for each in agent.sessions.list(client_did=key.did)] == [session.id]
            with pytest.raises(Forbidden):
                agent.stats()


def test_the_asyncio_client_makes_every_call() -> None:
    async def run() -> None:
        async with AsyncOnceguard(base_url=URL, token=TOKEN) as client:
            pair = parties()
            session = await client.sessions.open(**pair, session_key=b"k")
            await client.sessions.touch(session.id)
            assert await client.sessions.key(session.id) == b"k"
            await client.sessions.change(session.id, ttl_seconds=60)
            await client.sessions.claim(session.id, "n")
            assert await client.sessions.used(session.id, "n")
            [result] = await client.claims.create([SessionClaim(session.id, "n")])
            assert result.outcome == "replayed"
            listed = [each.id async for each in client.sessions.list(**pair)]
            assert listed == [(await client.sessions.read(session.id)).id]
            await client.sessions.end(session.id)
            assert await client.sessions.end_all(client_did=pair["client_did"]) == 0
            key = Key.generate()
            did = f"did:example:{key.did.rpartition(':')[2]}"
            await client.dids.store(did, public_key=key.public_key, key_type="Ed25519")
            assert (await client.dids.read(did)).did == (await client.dids.refresh(did)).did
            assert did in [each.did async for each in client.dids.list(key_type="Ed25519")]
            await client.dids.forget(did)
            assert (await client.dids.revoke(did)).did == did
            assert (await client.identifiers.resolve(key.did))["didDocument"]["id"] == key.did
            assert await client.identifiers.methods()
            assert await client.identifiers.properties()
            assert (await client.stats()).sessions.active >= 0

    asyncio.run(run())


def test_errors_say_what_to_do(client: Onceguard) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        client.sessions.open(client_did="x", server_did="y")
    assert [error.pointer for error in invalid.value.errors] == ["/client_did", "/server_did"]
    assert "/server_did: must be a DID" in str(invalid.value)
    assert invalid.value.code == "validation_failed"
    assert str(invalid.value.request_id) in str(invalid.value)

    with (
        Onceguard(base_url=URL, token="og_wrong_token") as stranger,
        pytest.raises(Unauthenticated) as unknown,
    ):
        stranger.stats()
    assert "onceguard token create" in str(unknown.value)
    assert "og_wrong" not in str(unknown.value)

    with pytest.raises(CannotSign, match="onceguard key new") as damaged:
        Key.from_pem("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----")
    assert "c2VjcmV0" not in repr(damaged.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "record_not_found", NotFound),
        (409, "issued_before_restore", IssuedBeforeRestore),
        (410, "cursor_expired", CursorExpired),
        (422, "checksum_mismatch", InvalidRequest),
        (428, "precondition_required", InvalidRequest),
        (503, "storage_went_back", Unavailable),
        (507, "record_quota_reached", RecordQuotaReached),
    ],
)
def test_a_code_has_its_kind(status: int, code: str, kind: type[OnceguardError]) -> None:
    error = of_answer(status, {"code": code, "detail": "d", "request_id": "r"}, None)
    assert (type(error), error.code, error.status) == (kind, code, status)


def test_an_answer_that_is_not_onceguards_is_an_error() -> None:
    for status, content in [(200, b"<html>"), (403, b"<html>"), (418, b"{}"), (500, b"[]")]:
        with (
            serving(lambda exchange, s=status, c=content: exchange.answer(s, {}, c)) as server,  # type: ignore[misc]
            Onceguard(base_url=url_of(server), token=TOKEN) as client,
            pytest.raises(UnexpectedAnswer) as unexpected,
        ):
            client.stats()
        assert isinstance(unexpected.value, OnceguardError)
        assert unexpected.value.code is None


def test_fields_that_are_newer_than_the_client_are_ignored() -> None:
    newer = (
        b'{"did":"did:example:a","revoked_at":"2026-01-02T03:04:05Z","sessions_ended":0,"new":1}'
    )
    with (
        serving(lambda exchange: exchange.answer(200, {}, newer)) as server,
        Onceguard(base_url=url_of(server), token=TOKEN) as client,
    ):
        assert client.dids.revoke("did:example:a").sessions_ended == 0
