"""Signs requests (RFC 9421, RFC 9530) as onceguard's default profile asks for it: method, whole
URL, the body's digest and type, and the session's id when it is sent. Or as a service asks for
it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping

from .accept import Form, asked_forms, own_form
from .errors import CannotSign
from .fields import quoted
from .keys import Key

#: How long a signature lasts, in seconds: the most that the profile allows.
LIFETIME = 300
_DIGEST = "content-digest"


def sign_request(
    key: Key,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    created: int | None = None,
    nonce: str | None = None,
    accept_signature: str | None = None,
) -> dict[str, str]:
    """The headers that sign a request. Send it within five minutes, exactly as it is given here,
    and once: a verifier accepts it only once.

    >>> sign_request(key, method="GET", url="https://shop.example/orders?id=7")
    {'Signature-Input': 'sig1=("@method" "@target-uri");created=…', 'Signature': 'sig1=:…:'}

    :param created: the time of signing, in seconds since 1970; now, if left out.
    :param nonce: at least 16 visible ASCII characters; random, if left out.
    :param accept_signature: an ``Accept-Signature`` field, by which a service asks for a signature:
        it is made so. If it is left out, the signature is as onceguard's default profile wants it.
    """
    fields = _combined(headers.items() if isinstance(headers, Mapping) else headers)
    if "signature" in fields or "signature-input" in fields:
        raise CannotSign("The request is signed already. Sign each request once.")
    values = {**fields, **_derived(method, url)}
    if accept_signature is None:
        forms = [own_form(_own_fields(fields, body))]
    else:
        forms = asked_forms(accept_signature, key, lambda name: name == _DIGEST or name in values)
    added: dict[str, str] = {}
    is_digested = any(_DIGEST in form.components for form in forms)
    if is_digested and (body or _DIGEST not in fields):
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        if values.setdefault(_DIGEST, digest) != digest:
            raise CannotSign("Content-Digest is not the body's. Leave it out: it is added.")
        added["Content-Digest"] = digest
    created = int(time.time()) if created is None else created
    inputs, signatures = [], []
    for form in forms:
        own_nonce = nonce or fresh_nonce() if form.nonce is None else form.nonce
        parameters = _parameters(form, key, created, own_nonce)
        signature = base64.b64encode(key.sign(_base(form, values, parameters))).decode()
        inputs.append(f"{form.label}={parameters}")
        signatures.append(f"{form.label}=:{signature}:")
    return {**added, "Signature-Input": ", ".join(inputs), "Signature": ", ".join(signatures)}


def fresh_nonce() -> str:
    """Random, and long enough for every profile."""
    return secrets.token_urlsafe(18)


def _own_fields(fields: Mapping[str, str], body: bytes) -> list[str]:
    """The fields that onceguard's default profile wants signed."""
    of_body = [_DIGEST, "content-type"] if body else [name for name in [_DIGEST] if name in fields]
    return [*of_body, "x-session-id"] if "x-session-id" in fields else of_body


def _parameters(form: Form, key: Key, created: int, nonce: str) -> str:
    # RFC 9421 has no name for ES256K, so that `alg` must be absent.
    alg = None if key.alg == "ES256K" else key.alg
    stated = {"nonce": nonce, "alg": alg, "keyid": key.keyid, "tag": form.tag}
    times = f"created={created};expires={created + LIFETIME}"
    texts = [f";{name}={quoted(value)}" for name, value in stated.items() if value is not None]
    return f"({' '.join(map(quoted, form.components))});{times}{''.join(texts)}"


def _base(form: Form, values: Mapping[str, str], parameters: str) -> bytes:
    """What is signed: a line for each component, and one for the parameters."""
    if any(name not in values for name in form.components):
        raise CannotSign("A body needs a Content-Type, which the signature covers. Set it.")
    lines = [f"{quoted(name)}: {values[name]}" for name in form.components]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    if not all(character == "\n" or " " <= character <= "~" for character in base):
        raise CannotSign("Method, URL and signed headers must be visible ASCII: encode them.")
    if base.count("\n") != len(lines):
        raise CannotSign("A signed header has a line break. Remove it.")
    return base.encode()


def _combined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each field's value by its name in lower case, its lines joined (RFC 9421, section 2.1)."""
    fields: dict[str, str] = {}
    for name, value in lines:
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _derived(method: str, url: str) -> dict[str, str]:
    """The components of a request that are no fields (RFC 9421, section 2.2)."""
    scheme, separator, rest = url.partition("#")[0].partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in ("http", "https"):
        raise CannotSign(f"{url!r} is not a whole URL: begin it with https:// or http://.")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if "@" in authority or " " in url:
        raise CannotSign("A signed URL has neither a user name nor spaces. Remove or encode them.")
    # As it is sent: with a path, and without a fragment.
    target = target if target.startswith("/") else f"/{target}"
    path, _, query = target.partition("?")
    return {
        "@method": method,
        "@target-uri": f"{scheme}://{authority}{target}",
        "@authority": authority.lower().removesuffix(":443" if scheme == "https" else ":80"),
        "@scheme": scheme,
        "@request-target": target,
        "@path": path,
        "@query": f"?{query}",
    }
