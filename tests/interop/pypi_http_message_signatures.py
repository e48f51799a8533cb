"""Signs and verifies request files with PyPI's `http-message-signatures`.

    sign KEY KEYID UNSIGNED SIGNED COMPONENT...
    verify KEY KEYID FILE...

KEY is a private key (PEM). `verify` prints `accepted FILE` or `refused FILE: WHY` for each file,
and fails when anything but the signature is wrong.
"""

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from secrets import token_urlsafe

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
    algorithms,
)


class Request:
    def __init__(self, content: bytes):
        head, self.body = content.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("ascii").split("\r\n")
        self.method, self.request_target, _ = first.split(" ")
        self.headers = dict(line.split(": ", 1) for line in lines)
        self.url = f"https://{self.headers['Host']}{self.request_target}"

    def __bytes__(self) -> bytes:
        lines = [f"{self.method} {self.request_target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body


def sign(suite: dict, keyid: str, unsigned: str, signed: str, *components: str) -> None:
    request = Request(Path(unsigned).read_bytes())
    now = datetime.now(timezone.utc)
    HTTPMessageSigner(**suite).sign(
        request,
        key_id=keyid,
        created=now,
        expires=now + timedelta(seconds=120),
        nonce=token_urlsafe(16),
        tag="onceguard",
        covered_component_ids=components,
        body=request.body or None,
    )
    Path(signed).write_bytes(bytes(request))


def verify(suite: dict, _keyid: str, *files: str) -> None:
    verifier = HTTPMessageVerifier(**suite)
    for file in files:
        request = Request(Path(file).read_bytes())
        try:
            [result] = verifier.verify(
                request,
                expect_tag="onceguard",
                require_components=["@method"],
                body=request.body,
            )
            assert result.nonce
            print(f"accepted {file}")
        except InvalidSignature as error:
            print(f"refused {file}: {error!r}")


def main(action: str, key_file: str, keyid: str, *more: str) -> None:
    key = load_pem_private_key(Path(key_file).read_bytes(), password=None)
    is_ed25519 = isinstance(key, Ed25519PrivateKey)
    suite = {
        "signature_algorithm": algorithms.ED25519 if is_ed25519 else algorithms.ECDSA_P256_SHA256,
        "key_resolver": MappingKeyResolver(
            public_keys={keyid: key.public_key()}, private_keys={keyid: key}
        ),
    }
    {"sign": sign, "verify": verify}[action](suite, keyid, *more)


main(*sys.argv[1:])
