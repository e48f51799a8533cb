"""Signs requests (RFC 9421, RFC 9530) as onceguard's default profile asks for it: method, whole
URL, the body's digest and type, and the session's id when it is sent."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping

from .errors import CannotSign
from .keys import Key

#: How long a signature lasts, in seconds: the most that the profile allows.
LIFETIME = 300


def sign_request(
    key: Key,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    created: int | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """The headers that sign a request. Send it within five minutes, exactly as it is given here,
    and once: a verifier accepts it only once.

    >>> sign_request(key, method="GET", url="https://shop.example/orders?id=7")
    {'Signature-Input': 'sig1=("@method" "@target-uri");created=…', 'Signature': 'sig1=:…:'}

    :param created: the time of signing, in seconds since 1970; now, if left out.
    :param nonce: at least 16 visible ASCII characters; random, if left out.
    """
    fields = _combined(headers.items() if isinstance(headers, Mapping) else headers)
    if "signature" in fields or "signature-input" in fields:
        raise CannotSign("The request is signed already. Sign each request once.")
    added: dict[str, str] = {}
    covered = {"@method": method, "@target-uri": _target(url)}
    if body:
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        if fields.setdefault("content-digest", digest) != digest:
            raise CannotSign("Content-Digest is not the body's. Leave it out: it is added.")
        if "content-type" not in fields:
            raise CannotSign("A body needs a Content-Type, which the signature covers. Set it.")
        added["Content-Digest"] = digest
    names = ["content-digest", "content-type"] if body else ["content-digest"]
    covered |= {name: fields[name] for name in [*names, "x-session-id"] if name in fields}

    created = int(time.time()) if created is None else created
    stated = {"nonce": nonce or secrets.token_urlsafe(18), "keyid": key.keyid, "tag": "onceguard"}
    if key.alg != "ES256K":
        # RFC 9421 has no name for ES256K, so that `alg` must be absent.
        stated = {"nonce": stated["nonce"], "alg": key.alg, **stated}
    parameters = (
        f"({' '.join(map(_quoted, covered))});created={created};expires={created + LIFETIME}"
    )
    parameters += "".join(f";{name}={_quoted(value)}" for name, value in stated.items())
    lines = [f"{_quoted(name)}: {value}" for name, value in covered.items()]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    if not all(character == "\n" or " " <= character <= "~" for character in base):
        raise CannotSign("Method, URL and signed headers must be visible ASCII: encode them.")
    if base.count("\n") != len(covered):
        raise CannotSign("A signed header has a line break. Remove it.")
    signature = base64.b64encode(key.sign(base.encode())).decode()
    return {**added, "Signature-Input": f"sig1={parameters}", "Signature": f"sig1=:{signature}:"}


def _combined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each field's value by its name in lower case, its lines joined (RFC 9421, section 2.1)."""
    fields: dict[str, str] = {}
    for name, value in lines:
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _target(url: str) -> str:
    """The URL as it is sent: with a path, and without a fragment."""
    scheme, separator, rest = url.partition("#")[0].partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise CannotSign(f"{url!r} is not a whole URL: begin it with https:// or http://.")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if "@" in authority or " " in url:
        raise CannotSign("A signed URL has neither a user name nor spaces. Remove or encode them.")
    return f"{scheme.lower()}://{authority}{path if path.startswith('/') else '/' + path}"


def _quoted(text: str) -> str:
    """A string as a structured field (RFC 8941, section 4.1.6)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
