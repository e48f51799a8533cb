"""Middleware for WSGI applications: Flask, Django, Bottle."""

from __future__ import annotations

import io
from collections.abc import Iterable
from http.client import responses
from typing import TYPE_CHECKING, Any, cast

from . import guard
from .client import Onceguard
from .errors import OnceguardError
from .types import Verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_VERDICT = "onceguard.verdict"


def verdict(environ: dict[str, Any]) -> Verdict:
    """Who signed the request of this environment, and in which session.

    >>> agent = verdict(flask.request.environ).did
    """
    return cast("Verdict", environ[_VERDICT])


class RequireSignature:
    """Lets through only requests that are signed, fresh and no replay.

    >>> app.wsgi_app = RequireSignature(app.wsgi_app, client=client, origin="https://shop.example")

    The application reads the body as ever, and finds the signer by :func:`verdict`. When onceguard
    cannot answer, the answer is 503.

    :param origin: the scheme and host that agents call this service by. A request that was signed
        for another one is refused: its Host header does not count.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        client: Onceguard,
        origin: str,
        profile: str | None = None,
        max_body_bytes: int = guard.MAX_BODY_BYTES,
    ) -> None:
        self._app = app
        self._client = client
        self._origin = guard.origin_of(origin)
        self._profile = profile
        self._max_body_bytes = max_body_bytes

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        refused = self._judge(environ)
        if refused is None:
            return self._app(environ, start_response)
        status = f"{refused.status} {responses[refused.status]}"
        content = refused.content
        headers = {**refused.all_headers, "Content-Length": str(len(content))}
        start_response(status, list(headers.items()))
        return [content]

    def _judge(self, environ: dict[str, Any]) -> guard.Refusal | None:
        """Puts the verdict into the environment, or says why there is none."""
        headers = _headers(environ)
        refused = guard.precheck(headers, self._profile)
        if refused is not None:
            return refused
        body = _body(environ, self._max_body_bytes)
        if len(body) > self._max_body_bytes:
            return guard.too_large(self._max_body_bytes)
        environ["wsgi.input"] = io.BytesIO(body)
        # A chunked body had no length; now it has one.
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            environ[_VERDICT] = self._client.verify(
                method=environ["REQUEST_METHOD"],
                url=self._origin + _target(environ),
                headers=headers,
                body=body,
                profile=self._profile,
            )
        except OnceguardError as error:
            return guard.of_error(error, headers, self._profile)
        return None


def _headers(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """WSGI has the headers under names of its own."""
    headers = [
        (name[len("HTTP_") :].replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers.append((name.replace("_", "-").lower(), environ[name]))
    return headers


def _target(environ: dict[str, Any]) -> str:
    """As received where the server tells it: werkzeug, uWSGI and mod_wsgi, or gunicorn."""
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    # WSGI has bytes as latin-1.
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1")
    return guard.raw_target(path.decode("utf-8", "replace"), environ.get("QUERY_STRING", ""), raw)


def _body(environ: dict[str, Any], limit: int) -> bytes:
    """All of the body, or a bit more than the limit."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        return _read(environ["wsgi.input"], min(int(length), limit + 1))
    if environ.get("wsgi.input_terminated"):
        return _read(environ["wsgi.input"], limit + 1)
    return b""


def _read(stream: Any, most: int) -> bytes:  # noqa: ANN401 - a WSGI input
    content = b""
    while len(content) < most:
        read = stream.read(most - len(content))
        if not read:
            break
        content += read
    return content
