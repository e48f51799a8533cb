"""What all middleware here does: it asks for a verdict on a received request, and lets through only
what passed. Every failure (no answer, a wrong token, a full disk) is 503, never open."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import OnceguardError, SignatureRefused
from .fields import are_malformed

logger = logging.getLogger("onceguard")

#: The most bytes of a body that can be judged: onceguard takes 256 KiB of JSON, with the body in
#: base64.
MAX_BODY_BYTES = 160 * 1024
# Of these the sender is known, and may not.
_FORBIDDEN = {"signature_key_revoked", "signature_not_a_party", "claim_quota_reached"}
# A signature that expired longer ago than this is refused without asking: no clock is so wrong.
_SKEW = 600


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


def precheck(headers: Iterable[tuple[str, str]]) -> Refusal | None:
    """Refuses what cannot pass, without asking."""
    lines = [(name.lower(), value) for name, value in headers]
    inputs = [value for name, value in lines if name == "signature-input"]
    signatures = [value for name, value in lines if name == "signature"]
    if not inputs and not signatures:
        detail = "Sign the request (RFC 9421), as onceguard's docs/signatures.md says."
        return refusal(401, "signature_required", "The request is not signed", detail)
    if not inputs or not signatures:
        detail = "Send both Signature-Input and Signature."
        return refusal(401, "signature_malformed", "The signature is malformed", detail)
    if are_malformed(inputs, signatures):
        detail = "Send Signature-Input and Signature as RFC 9421 has them, with the same labels."
        return refusal(401, "signature_malformed", "The signature is malformed", detail)
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', ", ".join(inputs))
    expires = [int(digits) for digits in re.findall(r";\s*expires=(\d{1,15})(?!\d)", unquoted)]
    if expires and max(expires) < time.time() - _SKEW:
        detail = "Sign the request just before you send it, and check the clock."
        title = "The signature is not valid at this time"
        return refusal(401, "signature_window_invalid", title, detail)
    return None


def too_large(limit: int) -> Refusal:
    detail = f"A signed request may have a body of at most {limit} bytes here."
    return refusal(413, "payload_too_large", "The body is too large", detail)


def of_error(error: OnceguardError) -> Refusal:
    """What the sender of a request is told when there is no verdict that it passed."""
    if isinstance(error, SignatureRefused) and error.status == 403:
        return _refusal(403 if error.code in _FORBIDDEN else 401, error.problem)
    # The operator is told why; the sender, only that it is not about them.
    logger.error("A request was refused, because it could not be judged: %s", error)
    detail = "This says nothing about the request. Send it again later, with a new signature."
    problem = refusal(503, "verdict_unavailable", "The request cannot be judged now", detail)
    after = str(int(error.retry_after or 5))
    return Refusal(503, problem.problem, {"Retry-After": after})
