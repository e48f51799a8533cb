"""An agent's key. The secret never reaches a text, an error or ``repr``."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .errors import CannotSign
from .types import Algorithm, KeyType

_Secret = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

# Multicodec prefixes (did:key), as varints.
_PREFIXES: dict[KeyType, bytes] = {
    "Ed25519": b"\xed\x01",
    "Secp256k1": b"\xe7\x01",
    "P256": b"\x80\x24",
}
_ALGORITHMS: dict[KeyType, Algorithm] = {
    "Ed25519": "ed25519",
    "Secp256k1": "ES256K",
    "P256": "ecdsa-p256-sha256",
}
_CURVES: dict[str, KeyType] = {"secp256k1": "Secp256k1", "secp256r1": "P256"}
_SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Key:
    """A secret key and the DID that it belongs to.

    >>> key = Key.from_pem(Path("agent.key").read_text())  # by `onceguard key new --out agent.key`
    >>> key.did
    'did:key:z6Mk…'
    """

    def __init__(self, secret: _Secret, *, keyid: str | None = None) -> None:
        """:param keyid: the DID URL of the key in its DID's document, such as
        ``did:web:alice.example#key-1``. Left out, the DID is the did:key of the key."""
        self._secret = secret
        self.key_type = _type_of(secret)
        #: The public key, raw: 32 bytes for Ed25519, 33 (compressed) for the others.
        self.public_key = _public_bytes(secret)
        if keyid is None:
            multikey = "z" + _base58(_PREFIXES[self.key_type] + self.public_key)
            keyid = f"did:key:{multikey}#{multikey}"
        #: How a verifier finds the key.
        self.keyid = keyid
        #: Who signs.
        self.did = keyid.partition("#")[0]

    @classmethod
    def generate(cls, key_type: KeyType = "Ed25519", *, keyid: str | None = None) -> Key:
        """A new random key."""
        if key_type == "Ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate(), keyid=keyid)
        if key_type not in _PREFIXES:
            raise CannotSign(f"{key_type!r} is no type of key: use one of {', '.join(_PREFIXES)}.")
        curve = ec.SECP256K1() if key_type == "Secp256k1" else ec.SECP256R1()
        return cls(ec.generate_private_key(curve), keyid=keyid)

    @classmethod
    def from_pem(cls, text: str | bytes, *, keyid: str | None = None) -> Key:
        """A key from PKCS#8 (``-----BEGIN PRIVATE KEY-----``), as ``onceguard key new`` and
        OpenSSL write it."""
        pem = text.encode() if isinstance(text, str) else text
        try:
            secret = serialization.load_pem_private_key(pem.strip(), password=None)
        except (ValueError, TypeError):
            # Its cause may quote the text.
            raise CannotSign(
                "This is no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----). "
                "Make one with `onceguard key new`, or convert one with "
                "`openssl pkcs8 -topk8 -nocrypt -in FILE`."
            ) from None
        if not isinstance(secret, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise CannotSign(f"The key is not of a type that signs here: {', '.join(_PREFIXES)}.")
        return cls(secret, keyid=keyid)

    def to_pem(self) -> str:
        """The secret key as PKCS#8. Keep it where only its owner can read it."""
        return self._secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    @property
    def alg(self) -> Algorithm:
        """The algorithm that the key signs with."""
        return _ALGORITHMS[self.key_type]

    def sign(self, message: bytes) -> bytes:
        """The signature of a message: 64 bytes."""
        if isinstance(self._secret, ed25519.Ed25519PrivateKey):
            return self._secret.sign(message)
        r, s = decode_dss_signature(self._secret.sign(message, ec.ECDSA(hashes.SHA256())))
        if self.key_type == "Secp256k1":
            # The other half of the range would give each message a second signature.
            s = min(s, _SECP256K1_ORDER - s)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"<Key {self.keyid}>"


def _type_of(secret: _Secret) -> KeyType:
    if isinstance(secret, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    if secret.curve.name not in _CURVES:
        raise CannotSign(f"The curve {secret.curve.name} is not one of {', '.join(_CURVES)}.")
    return _CURVES[secret.curve.name]


def _public_bytes(secret: _Secret) -> bytes:
    public = secret.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public.public_bytes_raw()
    return public.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )


def _base58(content: bytes) -> str:
    """Of a multicodec key, which does not begin with a zero byte."""
    number, text = int.from_bytes(content, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return text
