"""What all middleware here does: it asks for a verdict on a received request, and lets through only
what passed. Every failure (no answer, a wrong token, a full disk) is 503, never open."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import OnceguardError, SignatureRefused
from .fields import are_malformed
from .signatures import fresh_nonce

logger = logging.getLogger("onceguard")

#: The most bytes of a body that can be judged: onceguard takes 256 KiB of JSON, with the body in
#: base64.
MAX_BODY_BYTES = 160 * 1024
# Of these the sender is known, and may not.
_FORBIDDEN = {"signature_key_revoked", "signature_not_a_party", "claim_quota_reached"}
# Another signature can mend these: the refusal asks for it in Accept-Signature.
_MENDABLE = {
    "signature_required",
    "signature_malformed",
    "signature_tag_invalid",
    "signature_params_incomplete",
    "signature_components_incomplete",
}
# A signature that expired longer ago than this is refused without asking: no clock is so wrong.
_SKEW = 600


Lines = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the application's."""

    status: int
    problem: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return json.dumps(self.problem).encode()

    @property
    def all_headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/problem+json",
            "Cache-Control": "no-store",
            **self.headers,
        }


def refusal(status: int, code: str, title: str, detail: str) -> Refusal:
    """A refusal of our own."""
    problem = {"title": title, "status": status, "detail": detail, "code": code}
    return _refusal(status, problem)


def _refusal(status: int, problem: Mapping[str, Any]) -> Refusal:
    challenge = f'Signature error="{problem["code"]}"'
    headers = {"WWW-Authenticate": challenge} if status == 401 else {}
    return Refusal(status, {**problem, "status": status}, headers)


def origin_of(url: str) -> str:
    """Checks what a service says its agents call it by."""
    parts = urlsplit(url)
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not parts.netloc or not bare:
        raise ValueError(f"origin must be a scheme and a host, like https://shop.example: {url!r}")
    return f"{parts.scheme}://{parts.netloc}"


def raw_target(path: str, query: str, raw: str | None) -> str:
    """The target of the request line: as received where the server tells it, else written anew."""
    if raw is None:
        raw = quote(path, safe="/:@!$&'()*+,;=~-._")
    return f"{raw.partition('?')[0]}?{query}" if query else raw


def precheck(headers: Lines, profile: str | None) -> Refusal | None:
    """Refuses what cannot pass, without asking."""
    inputs, signatures = _values(headers, "signature-input"), _values(headers, "signature")
    if not inputs and not signatures:
        code, title = "signature_required", "The request is not signed"
        detail = "Sign the request (RFC 9421), as onceguard's docs/signatures.md says."
    elif not inputs or not signatures:
        code, title = "signature_malformed", "The signature is malformed"
        detail = "Send both Signature-Input and Signature."
    elif are_malformed(inputs, signatures):
        code, title = "signature_malformed", "The signature is malformed"
        detail = "Send Signature-Input and Signature as RFC 9421 has them, with the same labels."
    elif _expired_long_ago(inputs):
        code, title = "signature_window_invalid", "The signature is not valid at this time"
        detail = "Sign the request just before you send it, and check the clock."
    else:
        return None
    return _asking(refusal(401, code, title, detail), headers, profile)


def _values(headers: Lines, wanted: str) -> list[str]:
    return [value for name, value in headers if name.lower() == wanted]


def _expired_long_ago(inputs: Iterable[str]) -> bool:
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', ", ".join(inputs))
    expires = [int(digits) for digits in re.findall(r";\s*expires=(\d{1,15})(?!\d)", unquoted)]
    return bool(expires) and max(expires) < time.time() - _SKEW


def _asking(refused: Refusal, headers: Lines, profile: str | None) -> Refusal:
    """Only of the profile that onceguard comes with is it known here what it wants."""
    known = profile in (None, "onceguard")
    if not known or refused.status != 401 or refused.problem["code"] not in _MENDABLE:
        return refused
    return replace(refused, headers={**refused.headers, "Accept-Signature": _wanted(headers)})


def _wanted(headers: Lines) -> str:
    """What the profile ``onceguard`` wants of a request with these headers (RFC 9421, section
    5.1)."""
    is_sized = any(length != "0" for length in _values(headers, "content-length"))
    components = ["@method", "@target-uri"]
    if is_sized or _values(headers, "transfer-encoding") or _values(headers, "content-type"):
        components += ["content-digest", "content-type"]
    if _values(headers, "x-session-id"):
        components.append("x-session-id")
    covered = " ".join(f'"{name}"' for name in components)
    return f'sig1=({covered});created;expires;nonce="{fresh_nonce()}";tag="onceguard"'


def too_large(limit: int) -> Refusal:
    detail = f"A signed request may have a body of at most {limit} bytes here."
    return refusal(413, "payload_too_large", "The body is too large", detail)


def of_error(error: OnceguardError, headers: Lines, profile: str | None) -> Refusal:
    """What the sender of a request is told when there is no verdict that it passed."""
    if isinstance(error, SignatureRefused) and error.status == 403:
        status = 403 if error.code in _FORBIDDEN else 401
        return _asking(_refusal(status, error.problem), headers, profile)
    # The operator is told why; the sender, only that it is not about them.
    logger.error("A request was refused, because it could not be judged: %s", error)
    detail = "This says nothing about the request. Send it again later, with a new signature."
    problem = refusal(503, "verdict_unavailable", "The request cannot be judged now", detail)
    after = str(int(error.retry_after or 5))
    return Refusal(503, problem.problem, {"Retry-After": after})
