"""What a service asks for in ``Accept-Signature`` is signed so, by every language in the same way;
and a request is sent again only where the caller said that it may be."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from onceguard import CannotSign, HttpxSignature, Key, Onceguard, guard, sign_request
from onceguard.requests import RequestsSignature
from onceguard.types import KeyType

from .services import REAL, Guarded, code_of, each_framework
from .support import Exchange, parties, serving, url_of

FOLDER = Path(__file__).parents[2] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "accept.json").read_text())
KEYS: dict[str, Any] = json.loads((FOLDER / "signatures.json").read_text())["keys"]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    fields = sign_request(
        Key.from_pem(KEYS["Ed25519"]["pem"]),
        method=case["method"],
        url=case["url"],
        headers=[(name, value) for name, value in case["headers"]],
        body=base64.b64decode(case["body"]),
        created=case["created"],
        nonce=case["nonce"],
        accept_signature=case["accept"],
    )
    assert fields == case["fields"]
    # By `cryptography`, without any code of ours.
    secret = serialization.load_pem_private_key(KEYS["Ed25519"]["pem"].encode(), None)
    assert isinstance(secret, ed25519.Ed25519PrivateKey)
    signatures = fields["Signature"].split(", ")
    assert len(signatures) == len(case["bases"])
    for signature in signatures:
        label, _, content = signature.partition("=:")
        raw = base64.b64decode(content.removesuffix(":"))
        secret.public_key().verify(raw, case["bases"][label].encode())


@pytest.mark.parametrize(("accept", "key", "why"), VECTORS["refused"])
def test_what_cannot_be_signed_says_why(accept: str, key: str, why: str) -> None:
    with pytest.raises(CannotSign) as refused:
        sign_request(
            Key.from_pem(KEYS[key]["pem"]),
            method="GET",
            url="https://shop.example/orders?id=7",
            headers={"Content-Type": "text/plain"},
            accept_signature=accept,
        )
    assert why in str(refused.value)


@pytest.mark.parametrize("key_type", ["Ed25519", "P256", "Secp256k1"])
def test_the_service_reads_each_part_of_the_url_as_it_was_signed(
    client: Onceguard, key_type: KeyType
) -> None:
    parts = ["@method", "@authority", "@scheme", "@request-target", "@path", "@query"]
    covered = " ".join(f'"{name}"' for name in parts)
    accept = f'a=({covered});tag="onceguard"'
    for url in (
        "https://SHOP.example:443/a%20b/?q=1&q=2",
        "http://shop.example:8080",
        "http://shop.example:80/?",
    ):
        key = Key.generate(key_type)
        headers = sign_request(key, method="GET", url=url, accept_signature=accept)
        verdict = client.verify(method="GET", url=url, headers=headers)
        assert (verdict.did, len(verdict.covered)) == (key.did, len(parts))


@each_framework
def test_a_service_asks_for_what_it_needs_and_gets_it(guarded: Guarded, client: Onceguard) -> None:
    key = Key.generate()
    session = client.sessions.open(client_did=key.did, server_did=parties()["server_did"])
    of_body = ["content-digest", "content-type"]
    cases: list[tuple[str, dict[str, str], bytes, list[str]]] = [
        ("GET", {}, b"", []),
        ("POST", JSON, b'{"item": "lamp"}', of_body),
        ("POST", {**JSON, "X-Session-Id": session.id}, b"{}", [*of_body, "x-session-id"]),
    ]
    with guarded(REAL) as (origin, served):
        url = f"{origin}/orders?q=1"
        for method, headers, body, components in cases:
            refused = httpx.request(method, url, headers=headers, content=body)
            asked = refused.headers["Accept-Signature"]
            covered = " ".join(f'"{name}"' for name in ["@method", "@target-uri", *components])
            assert re.sub(r'nonce="[\w-]{24}"', "nonce", asked) == (
                f'sig1=({covered});created;expires;nonce;tag="onceguard"'
            )
            fields = sign_request(
                key, method=method, url=url, headers=headers, body=body, accept_signature=asked
            )
            answer = httpx.request(method, url, headers={**headers, **fields}, content=body)
            assert answer.status_code == 200, answer.text
        assert served == [body for _, _, body, _ in cases]


@each_framework
def test_a_signer_that_may_repeat_signs_as_it_is_asked(guarded: Guarded, client: Onceguard) -> None:
    sent: list[httpx.Request] = []
    accept = 'sig1=("@method" "@authority" "x-extra");tag="onceguard"'
    key = Key.generate()
    with (
        guarded(REAL) as (origin, served),
        httpx.Client(event_hooks={"request": [sent.append]}, headers={"X-Extra": "1"}) as http,
    ):
        url = f"{origin}/orders"
        once = http.post(url, json={}, auth=HttpxSignature(key, accept_signature=accept))
        assert (once.status_code, code_of(once)) == (401, "signature_components_incomplete")
        assert (len(sent), served) == (1, [])
        # What is asked for then is enough, and replays no nonce.
        repeating = HttpxSignature(key, accept_signature=accept, repeatable=True)
        for expected in (3, 5):
            assert http.post(url, json={}, auth=repeating).status_code == 200
            assert len(sent) == expected
        assert served == [b"{}"] * 2
        with requests.Session() as session:
            by_requests = RequestsSignature(key, accept_signature=accept, repeatable=True)
            answer = session.post(url, json={}, headers={"X-Extra": "1"}, auth=by_requests)
            assert (answer.status_code, len(answer.history)) == (200, 1)
        # Another signature would not mend this one.
        client.dids.revoke(key.did)
        revoked = http.get(url, auth=HttpxSignature(key, repeatable=True))
        assert (revoked.status_code, len(sent)) == (403, 6)
    assert len(served) == 3


@pytest.mark.parametrize(
    ("status", "asked", "repeatable", "sent"),
    [
        (401, 'sig1=("@target-uri");tag="a"', True, 2),
        (403, 'sig1=("@target-uri");tag="a"', True, 2),
        (401, 'sig1=("@target-uri");tag="a"', False, 1),
        (200, 'sig1=("@target-uri");tag="a"', True, 1),
        (503, 'sig1=("@target-uri");tag="a"', True, 1),
        (401, 'sig1=("@target-uri");alg="rsa-v1_5-sha256"', True, 1),
        (401, 'sig1=("@target-uri" "x-unknown")', True, 1),
        (401, "sig1=", True, 1),
        (401, None, True, 1),
    ],
)
def test_an_answer_is_left_as_it_is_where_nothing_can_be_mended(
    status: int, asked: str | None, repeatable: bool, sent: int
) -> None:
    inputs: list[str] = []
    bodies: list[bytes] = []
    digested: list[bool] = []

    def handle(exchange: Exchange) -> None:
        inputs.append(exchange.headers["Signature-Input"])
        digested.append("Content-Digest" in exchange.headers)
        bodies.append(exchange.body)
        headers = {} if asked is None else {"Accept-Signature": asked}
        exchange.answer(status, headers, b"as it was")

    def checked(got_status: int, content: bytes) -> None:
        assert (got_status, content) == (status, b"as it was")
        assert bodies == [b"lamp"] * sent
        nonces = {re.findall(r'nonce="([\w-]{24})"', text)[0] for text in inputs}
        assert len(nonces) == len(inputs) == sent, "each signature has a nonce of its own"
        if sent == 2:
            assert re.fullmatch(r'sig1=\("@target-uri"\);.*;tag="a"', inputs[1])
            assert digested == [True, False], "nothing is left of the first signature"
        inputs.clear()
        bodies.clear()
        digested.clear()

    key = Key.generate()
    headers = {"Content-Type": "text/plain"}
    with serving(handle) as server:
        url = f"{url_of(server)}/orders"
        auth = HttpxSignature(key, repeatable=repeatable)
        answer = httpx.post(url, content=b"lamp", headers=headers, auth=auth)
        checked(answer.status_code, answer.content)

        async def run() -> httpx.Response:
            async with httpx.AsyncClient(auth=auth) as http:
                return await http.post(url, content=b"lamp", headers=headers)

        answer = asyncio.run(run())
        checked(answer.status_code, answer.content)
        for body in (b"lamp", "lamp"):
            by_requests = RequestsSignature(key, repeatable=repeatable)
            got = requests.post(url, data=body, headers=headers, auth=by_requests, timeout=60)
            checked(got.status_code, got.content)


def test_a_nonce_is_for_one_request() -> None:
    key = Key.generate()
    accept = 'sig1=("@target-uri");nonce="n"'
    with pytest.raises(CannotSign, match="one request"):
        HttpxSignature(key, accept_signature=accept)
    with pytest.raises(CannotSign, match="one request"):
        RequestsSignature(key, accept_signature=accept)


def test_what_another_profile_wants_is_not_known() -> None:
    known, other = guard.precheck([], "onceguard"), guard.precheck([], "sage")
    assert known is not None
    assert other is not None
    assert known.headers["Accept-Signature"].startswith("sig1=")
    assert "Accept-Signature" not in other.headers


def test_requests_sends_what_is_signed(client: Onceguard) -> None:
    key = Key.generate()
    verdicts = []

    def judge(exchange: Exchange) -> None:
        url = f"http://{exchange.headers['Host']}{exchange.path}"
        headers = list(exchange.headers.items())
        verdicts.append(
            client.verify(method=exchange.command, url=url, headers=headers, body=exchange.body)
        )
        exchange.answer(204, {})

    with serving(judge) as server, requests.Session() as http:
        url = url_of(server)
        http.auth = RequestsSignature(key)
        http.post(f"{url}/a b?q=é&r#top", json={"a": 1}).raise_for_status()
        http.post(url, data={"name": "é"}).raise_for_status()
        http.post(url, data="é", headers={"Content-Type": "text/plain"}).raise_for_status()
        http.post(url, files={"file": b"content"}).raise_for_status()
        http.get(url, params={"a": ["1", "2"]}, headers={"Host": "shop.example"}).raise_for_status()
        with pytest.raises(CannotSign, match="stream"):
            http.post(url, data=iter([b"1", b"2"]), headers={"Content-Type": "text/plain"})
    assert [verdict.did for verdict in verdicts] == [key.did] * 5
