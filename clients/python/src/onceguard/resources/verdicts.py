"""Verdicts on signed requests. A verdict spends a nonce, so each is asked for under a key of its
own: a lost answer is told again, and never reads as a replay. Without an answer, the request counts
as refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import errors
from ..transport import Plan, Request, exchange
from ..types import Verdict
from ..wire import without_none, write_bytes
from .claims import fresh_key

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def judge(
    method: str,
    url: str,
    headers: Headers,
    body: bytes,
    profile: str | None,
    session_id: str | None,
    idempotency_key: str | None,
    retries: int,
) -> Plan[Verdict]:
    lines = headers.items() if isinstance(headers, Mapping) else headers
    received = {
        "method": method,
        "url": url,
        "headers": [[name, value] for name, value in lines],
        "body": write_bytes(body) if body else None,
        "profile": profile,
        "session_id": session_id,
    }
    request = Request(
        "POST",
        "/v1/verify",
        body=without_none(received),
        headers=fresh_key(idempotency_key),
        repeatable=True,
    )
    try:
        return (yield from exchange(request, retries)).read(Verdict)
    except errors.OnceguardError as error:
        # 403 is about the judged request, unless its code says that it is about our token.
        if error.status != 403 or error.code in (None, "forbidden"):
            raise
        if isinstance(error, errors.SignatureRefused):
            raise
        raise errors.refused(error) from None
