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

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
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


class Es256k(algorithms.HTTPSignatureAlgorithm):
    """secp256k1 over SHA-256, as JWS has it (RFC 8812), with low S. The library does not bring it,
    and RFC 9421 has no `alg` for it."""

    algorithm_id = "ES256K"
    suite = ec.ECDSA(hashes.SHA256())
    order = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141

    def __init__(self, public_key=None, private_key=None):
        self.public_key, self.private_key = public_key, private_key

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.private_key.sign(message, self.suite))
        return r.to_bytes(32, "big") + min(s, self.order - s).to_bytes(32, "big")

    def verify(self, signature: bytes, message: bytes) -> None:
        assert len(signature) == 64
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        self.public_key.verify(encode_dss_signature(r, s), message, self.suite)


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
        include_alg=suite["signature_algorithm"] is not Es256k,
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
    if isinstance(key, Ed25519PrivateKey):
        algorithm = algorithms.ED25519
    else:
        algorithm = {"secp256r1": algorithms.ECDSA_P256_SHA256, "secp256k1": Es256k}[key.curve.name]
    suite = {
        "signature_algorithm": algorithm,
        "key_resolver": MappingKeyResolver(
            public_keys={keyid: key.public_key()}, private_keys={keyid: key}
        ),
    }
    {"sign": sign, "verify": verify}[action](suite, keyid, *more)


main(*sys.argv[1:])
