"""The middleware, each in a real server: only what passed reaches the application, with its body as
it was sent; and without a verdict, nothing does."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from onceguard import AsyncOnceguard, HttpxSignature, Key, Onceguard, sign_request
from onceguard.fastapi import RequireSignature

from .services import (
    REAL,
    Guarded,
    asgi_service,
    bound,
    code_of,
    each_framework,
    flask_service,
)
from .support import TOKEN, URL, Cutting, Exchange, parties, serving, url_of


@each_framework
def test_only_what_passed_is_served(guarded: Guarded, client: Onceguard) -> None:
    key = Key.generate()
    auth = HttpxSignature(key)
    session = client.sessions.open(client_did=key.did, server_did=parties()["server_did"])
    with guarded(REAL) as (origin, served):
        # The body, the query and the session reach the application as they were sent.
        body = bytes(range(256)) * 300
        for content in (body, b"", b"{}"):
            for session_id in (None, session.id):
                headers = {"X-Session-Id": session_id} if session_id else {}
                if content:
                    headers["Content-Type"] = "application/octet-stream"
                answer = httpx.post(
                    f"{origin}/orders/a%2Fb%20c?q=caf%C3%A9&q=%2B&e",
                    content=content,
                    headers=headers,
                    auth=auth,
                )
                assert answer.status_code == 200, answer.text
                assert answer.json() == {
                    "did": key.did,
                    "session": session_id,
                    "body": hashlib.sha256(content).hexdigest(),
                    "query": "q=caf%C3%A9&q=%2B&e",
                }
        assert len(served) == 6

        # In chunks, too.
        json_type = {"Content-Type": "application/json"}
        url = f"{origin}/chunks"
        signature = sign_request(key, method="POST", url=url, headers=json_type, body=b'{"a": 1}')
        if guarded is not flask_service:
            chunks = iter([b'{"a"', b": 1}"])
            answer = httpx.post(url, content=chunks, headers={**json_type, **signature})
            assert answer.status_code == 200, answer.text
            assert served.pop() == b'{"a": 1}'
            assert len(served) == 6

        # The application does not see a request that is wrong in any way.
        signature = sign_request(key, method="GET", url=f"{origin}/once")
        assert httpx.get(f"{origin}/once", headers=signature).status_code == 200
        assert served.pop() == b""
        elsewhere = sign_request(key, method="GET", url="http://other.example/once")
        old = sign_request(key, method="GET", url=f"{origin}/once", created=1_000_000_000)
        fresh = sign_request(key, method="GET", url=f"{origin}/other")
        posted = sign_request(key, method="POST", url=url, headers=json_type, body=b"{}")
        half = {"Signature": fresh["Signature"]}
        host = {**elsewhere, "Host": "other.example"}
        for headers, code in [
            (signature, "signature_replayed"),
            ({}, "signature_required"),
            (half, "signature_malformed"),
            ({"Signature-Input": "x", "Signature": "y"}, "signature_malformed"),
            (old, "signature_window_invalid"),
            (fresh, "signature_invalid"),
            (elsewhere, "signature_invalid"),
            (host, "signature_invalid"),
        ]:
            answer = httpx.get(f"{origin}/once", headers=headers)
            assert (answer.status_code, code_of(answer)) == (401, code)
            assert answer.headers["WWW-Authenticate"] == f'Signature error="{code}"'
        answer = httpx.post(url, content=b"[]", headers={**json_type, **posted})
        assert (answer.status_code, code_of(answer)) == (401, "signature_digest_mismatch")
        large = httpx.post(url, content=b"x" * 100_001, headers=json_type, auth=auth)
        assert (large.status_code, code_of(large)) == (413, "payload_too_large")

        client.dids.revoke(key.did)
        answer = httpx.get(f"{origin}/once", auth=auth)
        assert (answer.status_code, code_of(answer)) == (403, "signature_key_revoked")
        assert len(served) == 6


@each_framework
def test_what_cannot_pass_is_refused_without_asking(guarded: Guarded) -> None:
    with (
        bound() as (_, stopped),
        guarded({"base_url": stopped, "token": TOKEN}) as (origin, served),
    ):
        key, url = Key.generate(), f"{origin}/once"
        signed = sign_request(key, method="GET", url=url)
        expired = sign_request(key, method="GET", url=url, created=int(time.time()) - 3600)
        for headers, code in [
            ({}, "signature_required"),
            ({**signed, "Signature": "sig1=x"}, "signature_malformed"),
            ({**signed, "Signature": "sig2=:AAAA:"}, "signature_malformed"),
            (expired, "signature_window_invalid"),
        ]:
            answer = httpx.get(url, headers=headers)
            assert (answer.status_code, code_of(answer)) == (401, code)
        # Only this one is asked about, and there is no answer.
        assert httpx.get(url, headers=signed).status_code == 503
        assert served == []


@each_framework
def test_a_lost_verdict_is_no_replay_and_a_copy_is(guarded: Guarded) -> None:
    cutting = Cutting("after")
    with cutting.running() as url, guarded({**REAL, "base_url": url}) as (origin, served):
        signed = sign_request(Key.generate(), method="GET", url=f"{origin}/lost")
        # The sender's own key is not the one by which a verdict is repeated.
        headers = {**signed, "Idempotency-Key": "0123456789abcdef0123456789abcdef"}
        assert httpx.get(f"{origin}/lost", headers=headers).status_code == 200
        copy = httpx.get(f"{origin}/lost", headers=headers)
        assert (copy.status_code, code_of(copy)) == (401, "signature_replayed")
        assert served == [b""]
    assert (cutting.cut, cutting.received) == (2, 4)


def certificate(folder: Path) -> ssl.SSLContext:
    """Of an authority that no client knows."""
    key, cert = folder / "tls.pem", folder / "tls.crt"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-keyout", str(key), "-out", str(cert), *subject),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@each_framework
def test_without_a_verdict_nothing_is_served(
    guarded: Guarded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auth = HttpxSignature(Key.generate())
    asked: list[tuple[str, str | None]] = []

    def ask(exchange: Exchange) -> None:
        asked.append((exchange.path, exchange.headers.get("Idempotency-Key")))

    def answering(status: int, body: object) -> Callable[[Exchange], None]:
        def handle(exchange: Exchange) -> None:
            ask(exchange)
            exchange.answer(status, {}, json.dumps(body).encode())

        return handle

    def slow(exchange: Exchange) -> None:
        ask(exchange)
        released.wait()
        exchange.cut()

    def lost(exchange: Exchange) -> None:
        """The service decides, and its answer is lost."""
        ask(exchange)
        httpx.post(URL + exchange.path, content=exchange.body, headers=dict(exchange.headers))
        exchange.cut()

    problem = {"title": "t", "detail": "d", "request_id": "r"}
    faults = {
        "503": answering(503, {**problem, "code": "storage_unavailable"}),
        "unknown": answering(503, {**problem, "code": "outcome_unknown"}),
        "no scope": answering(403, {**problem, "code": "forbidden"}),
        "html": answering(200, "<html>"),
        "403 of a proxy": answering(403, "<html>"),
        "redirect": answering(302, {}),
        "nothing": answering(200, None),
        "no verdict": answering(200, {}),
        "slow": slow,
        "lost": lost,
    }
    released = threading.Event()
    with bound() as (_, stopped):
        cases: dict[str, dict[str, Any]] = {
            "stopped": {"base_url": stopped, "token": TOKEN},
            "wrong token": {"base_url": URL, "token": "og_wrong"},
        }
        for name, settings in cases.items():
            refused_everything(guarded, settings, auth, name)
    for name, handle in faults.items():
        asked.clear()
        with serving(handle) as server:
            settings = {
                "base_url": url_of(server),
                "token": TOKEN,
                "timeout": 0.5 if name == "slow" else 60,
            }
            refused_everything(guarded, settings, auth, name)
            released.set()
        again = name in ("503", "unknown", "slow", "lost")
        assert len(asked) == (3 if again else 1), name
        [(path, key)] = set(asked)
        assert path == "/v1/verify", name
        assert len(key or "") >= 22, f"{name}: a verdict is asked for again under one key"
    with serving(answering(200, {})) as server:
        server.socket = certificate(tmp_path).wrap_socket(server.socket, server_side=True)
        settings = {"base_url": url_of(server, "https"), "token": TOKEN}
        refused_everything(guarded, settings, auth, "wrong certificate")
    logged = [record.getMessage() for record in caplog.records if record.name == "onceguard"]
    assert len(logged) == len(cases) + len(faults) + 1, "the operator is told"
    assert TOKEN not in "".join(logged)


def refused_everything(
    guarded: Guarded, settings: dict[str, Any], auth: httpx.Auth, name: str
) -> None:
    with guarded(settings) as (origin, served):
        answer = httpx.post(f"{origin}/orders", json={}, auth=auth, timeout=30)
        assert (answer.status_code, code_of(answer)) == (503, "verdict_unavailable"), name
        assert int(answer.headers["Retry-After"]) > 0
        assert served == [], name


def test_a_websocket_is_refused() -> None:
    with asgi_service(REAL) as (origin, served):
        answer = httpx.get(
            f"{origin}/socket",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                "Sec-WebSocket-Version": "13",
            },
        )
        assert answer.status_code in (401, 403)
        assert served == []


def test_an_origin_is_a_scheme_and_a_host() -> None:
    for origin in ("shop.example", "https://shop.example/path", "ftp://shop.example", "https://"):
        with pytest.raises(ValueError, match="origin"):
            RequireSignature(AsyncOnceguard(**REAL), origin=origin)
