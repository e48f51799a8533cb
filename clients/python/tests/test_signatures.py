"""What is signed is what the vectors say, and every language's signature of it is accepted."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from onceguard import CannotSign, HttpxSignature, Key, Onceguard, sign_request
from onceguard.types import KeyType

from .support import Exchange, serving, url_of

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "signatures.json").read_text()
)
KEY_TYPES: tuple[KeyType, ...] = ("Ed25519", "P256", "Secp256k1")


def verifies(pem: str, base: bytes, signature: bytes) -> bool:
    """By `cryptography`, without any code of ours."""
    secret = serialization.load_pem_private_key(pem.encode(), None)
    try:
        if isinstance(secret, ed25519.Ed25519PrivateKey):
            secret.public_key().verify(signature, base)
        else:
            assert isinstance(secret, ec.EllipticCurvePrivateKey)
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            der = encode_dss_signature(r, s)
            secret.public_key().verify(der, base, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    known = VECTORS["keys"][case["key"]]
    key = Key.from_pem(known["pem"])
    assert (key.did, key.keyid) == (known["did"], known["keyid"])
    assert base64.b64encode(key.public_key).decode() == known["public_key"]
    fields = sign_request(
        key,
        method=case["method"],
        url=case["url"],
        headers=[(name, value) for name, value in case["headers"]],
        body=base64.b64decode(case["body"]),
        created=case["created"],
        nonce=case["nonce"],
    )
    ours = fields.pop("Signature").removeprefix("sig1=:").removesuffix(":")
    assert fields == case["fields"]
    assert set(case["signatures"]) == {"python", "typescript"}
    if case["key"] == "Ed25519":
        assert set(case["signatures"].values()) == {ours}, "Ed25519 signs the same in the same way"
    for signature in (ours, *case["signatures"].values()):
        raw = base64.b64decode(signature)
        assert verifies(known["pem"], case["base"].encode(), raw)
        assert not verifies(known["pem"], case["base"].encode() + b"x", raw)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_service_accepts_what_is_signed(client: Onceguard, key_type: KeyType) -> None:
    for case in VECTORS["cases"]:
        if "session" in case["name"]:
            continue  # it would have to be there
        key = Key.generate(key_type)
        headers = [(name, value) for name, value in case["headers"]]
        body = base64.b64decode(case["body"])
        url = case["url"].partition("#")[0]
        signed = sign_request(
            key, method=case["method"], url=case["url"], headers=headers, body=body
        )
        verdict = client.verify(
            method=case["method"], url=url, headers=[*headers, *signed.items()], body=body
        )
        assert (verdict.did, verdict.keyid, verdict.alg) == (key.did, key.keyid, key.alg)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_a_key_survives_its_pem(key_type: KeyType) -> None:
    key = Key.generate(key_type)
    again = Key.from_pem(key.to_pem().encode(), keyid="did:web:alice.example#key-1")
    assert again.public_key == key.public_key
    assert (again.did, again.keyid) == ("did:web:alice.example", "did:web:alice.example#key-1")
    assert "PRIVATE" not in repr(key)
    # Each of many: low S is a matter of chance otherwise.
    assert all(len(key.sign(bytes([n]))) == 64 for n in range(64))


def test_secp256k1_signs_with_low_s() -> None:
    half = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    key = Key.generate("Secp256k1")
    assert all(int.from_bytes(key.sign(bytes([n]))[32:], "big") <= half for n in range(64))


def test_what_cannot_be_signed_says_why() -> None:
    key = Key.generate()
    url = "https://shop.example/"
    signed = sign_request(key, method="GET", url=url)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"headers": signed}, "signed already"),
        ({"body": b"x"}, "Content-Type"),
        ({"body": b"x", "headers": {"Content-Digest": "sha-256=:AA==:"}}, "Content-Digest"),
        ({"url": "/orders"}, "whole URL"),
        ({"url": "https://user@shop.example/"}, "user name"),
        ({"url": "https://shop.example/caf\u00e9"}, "encode"),
        ({"headers": {"X-Session-Id": "a\nb"}}, "line break|encode"),
    ]
    for arguments, why in wrong:
        with pytest.raises(CannotSign, match=why):
            sign_request(key, **{"method": "GET", "url": url, **arguments})
    with pytest.raises(CannotSign, match="Ed25519"):
        Key.generate("RSA")  # type: ignore[arg-type]


def test_httpx_sends_what_is_signed(client: Onceguard) -> None:
    key = Key.generate()
    verdicts = []

    def judge(exchange: Exchange) -> None:
        url = f"http://{exchange.headers['Host']}{exchange.path}"
        headers = list(exchange.headers.items())
        verdicts.append(
            client.verify(method=exchange.command, url=url, headers=headers, body=exchange.body)
        )
        exchange.answer(204, {})

    with serving(judge) as server, httpx.Client(auth=HttpxSignature(key)) as http:
        url = url_of(server)
        http.post(f"{url}/a b?q=é&r", json={"a": 1}).raise_for_status()
        http.put(url, content=b"12", headers={"Content-Type": "x/y"})
        http.post(url, files={"file": b"content"}).raise_for_status()
        http.get(url, params={"a": ["1", "2"]}, headers={"Host": "shop.example"}).raise_for_status()
    assert [verdict.did for verdict in verdicts] == [key.did] * 4
