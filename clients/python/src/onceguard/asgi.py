"""Middleware for ASGI applications: Starlette, FastAPI, Quart, Litestar, Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from . import guard
from .client import AsyncOnceguard
from .errors import OnceguardError
from .types import Verdict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_VERDICT = "onceguard.verdict"


def verdict(scope: Scope) -> Verdict:
    """Who signed the request of this scope, and in which session.

    >>> agent = verdict(request.scope).did
    """
    return cast("Verdict", scope[_VERDICT])


class RequireSignature:
    """Lets through only requests that are signed, fresh and no replay.

    >>> app.add_middleware(RequireSignature, client=client, origin="https://shop.example")

    The application reads the body as ever, and finds the signer by :func:`verdict`. WebSockets are
    refused. When onceguard cannot answer, the answer is 503.

    :param origin: the scheme and host that agents call this service by. A request that was signed
        for another one is refused: its Host header does not count.
    """

    def __init__(
        self,
        app: App,
        *,
        client: AsyncOnceguard,
        origin: str,
        profile: str | None = None,
        max_body_bytes: int = guard.MAX_BODY_BYTES,
    ) -> None:
        self._app = app
        self._client = client
        self._origin = guard.origin_of(origin)
        self._profile = profile
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        refused = guard.precheck(headers, self._profile)
        body = b""
        if refused is None:
            received = await _body(receive, self._max_body_bytes)
            if received is None:
                return
            body = received
            refused = await self._judge(scope, headers, body)
        if refused is None:
            await self._app(scope, _replay(body, receive), send)
        else:
            await _answer(refused, send)

    async def _judge(
        self, scope: Scope, headers: list[tuple[str, str]], body: bytes
    ) -> guard.Refusal | None:
        """Puts the verdict into the scope, or says why there is none."""
        if len(body) > self._max_body_bytes:
            return guard.too_large(self._max_body_bytes)
        try:
            scope[_VERDICT] = await self._client.verify(
                method=scope["method"],
                url=self._origin + target(scope),
                headers=headers,
                body=body,
                profile=self._profile,
            )
        except OnceguardError as error:
            return guard.of_error(error, headers, self._profile)
        return None


def target(scope: Scope) -> str:
    """The target of a scope's request line."""
    raw = scope.get("raw_path")
    text = None if raw is None else raw.decode("latin-1")
    return guard.raw_target(scope["path"], scope.get("query_string", b"").decode("latin-1"), text)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """All of the body, or a bit more than the limit; None when the sender is gone."""
    body = bytearray()
    while len(body) <= limit:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, in one piece; then what comes after it."""
    pending = True

    async def replay() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


async def _answer(refused: guard.Refusal, send: Send) -> None:
    content = refused.content
    headers = {**refused.all_headers, "Content-Length": str(len(content))}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": lines})
    await send({"type": "http.response.body", "body": content})
