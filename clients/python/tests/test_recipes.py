"""The recipes of docs/namespaces.md, as they stand there, with the libraries that they name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from onceguard import InvalidRequest, Key, NonceReplayed, Onceguard

DOC = Path(__file__).parents[3] / "docs" / "namespaces.md"
Recipe = Callable[..., Any]


def recipes() -> dict[str, Recipe]:
    """The functions of the chapter's blocks, each block a module of its own."""
    found: dict[str, Recipe] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL):
        module: dict[str, Any] = {}
        exec(compile(block, str(DOC), "exec"), module)
        found |= {name: module[name] for name in re.findall(r"^def (\w+)", block, re.MULTILINE)}
    return found


RECIPES = recipes()


def unique(name: str) -> str:
    return f"{name}-{Key.generate().did[-12:]}"


def test_the_chapter_has_these_recipes() -> None:
    assert set(RECIPES) == {"authenticate", "finish_login", "receive"}


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_an_assertion_passes_once(client: Onceguard, algorithm: str) -> None:
    authenticate = RECIPES["authenticate"]
    secret: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    audience, issuer = "https://as.example/token", f"https://{unique('client')}.example"

    def assertion(**changed: Any) -> str:  # noqa: ANN401 - JSON
        now = int(time.time())
        claims = {"iss": issuer, "sub": issuer, "aud": audience, "iat": now, "exp": now + 60}
        whole = {**claims, "jti": "é/ 1", **changed}
        stated = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(stated, secret, algorithm=algorithm)

    public = secret.public_key()
    good = assertion()
    assert authenticate(client, good, public, issuer, audience)["sub"] == issuer
    for copy in (good, assertion(exp=int(time.time()) + 90)):
        with pytest.raises(NonceReplayed):
            authenticate(client, copy, public, issuer, audience)
    # Within the leeway, and another client's id is another one.
    late = assertion(exp=int(time.time()) - 5, jti="2")
    authenticate(client, late, public, issuer, audience)
    other = unique("other")
    authenticate(client, assertion(iss=other), public, other, audience)

    # What does not pass spends nothing.
    before = client.namespaces.read(issuer).live
    for wrong in (
        assertion(jti="3", aud="https://other.example"),
        assertion(jti="3", iss="https://other.example"),
        assertion(jti="3", exp=int(time.time()) - 60),
        assertion(jti=None),
        assertion(jti="3", iat=None),
        good[:-4] + "AAAA",
    ):
        with pytest.raises(jwt.InvalidTokenError):
            authenticate(client, wrong, public, issuer, audience)
    long = assertion(jti="3", exp=int(time.time()) + 90_000)
    with pytest.raises(InvalidRequest):
        authenticate(client, long, public, issuer, audience)
    assert client.namespaces.read(issuer).live == before


def test_a_login_ends_once(client: Onceguard) -> None:
    finish_login = RECIPES["finish_login"]
    state, now = unique("state"), datetime.now(timezone.utc)
    with pytest.raises(PermissionError):
        finish_login(client, unique("state"), state, now)
    finish_login(client, state, state, now)
    with pytest.raises(NonceReplayed):
        finish_login(client, state, state, now)
    state = unique("late")
    with pytest.raises(InvalidRequest):
        finish_login(client, state, state, now - timedelta(minutes=11))


def test_a_webhook_is_received_once(client: Onceguard) -> None:
    receive = RECIPES["receive"]
    secret, event = "whsec_c2VjcmV0IG9mIGEgdGVzdA==", b'{"type": "order.paid"}'

    def headers(name: str, sent: datetime) -> dict[str, str]:
        return {
            "webhook-id": name,
            "webhook-timestamp": str(int(sent.timestamp())),
            "webhook-signature": Webhook(secret).sign(name, sent, event.decode()),
        }

    now, name = datetime.now(timezone.utc), unique("msg")
    assert receive(client, secret, event, headers(name, now)) == {"type": "order.paid"}
    assert receive(client, secret, event, headers(name, now)) is None
    # A repeat has a time of its own.
    again = headers(name, now - timedelta(seconds=30))
    assert receive(client, secret, event, again) is None
    assert receive(client, secret, event, headers(unique("msg"), now)) == {"type": "order.paid"}

    # A forgery spends nothing.
    name = unique("msg")
    with pytest.raises(WebhookVerificationError):
        receive(client, secret, b"{}", headers(name, now))
    assert client.namespaces.used("webhooks", name) is None
    assert receive(client, secret, event, headers(name, now)) == {"type": "order.paid"}
