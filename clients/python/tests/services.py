"""Guarded services: the middleware, each in a real server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from werkzeug.serving import make_server

from onceguard import AsyncOnceguard, Onceguard, Verdict, asgi, wsgi
from onceguard.fastapi import RequireSignature

from .support import TOKEN, URL

#: How a service is guarded: given the client's settings, its URL and what it has served.
Guarded = Callable[[dict[str, Any]], contextlib.AbstractContextManager[tuple[str, list[bytes]]]]


def seen(verdict: Verdict, body: bytes, query: str) -> dict[str, Any]:
    """What the application answers."""
    return {
        "did": verdict.did,
        "session": verdict.session_id,
        "body": hashlib.sha256(body).hexdigest(),
        "query": query,
    }


@contextlib.contextmanager
def bound() -> Iterator[tuple[socket.socket, str]]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def uvicorn_with(
    app: Any,  # noqa: ANN401 - an ASGI application
    listener: socket.socket,
    client: AsyncOnceguard,
) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))

    async def run() -> None:
        async with client:
            await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def asgi_service(settings: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    served: list[bytes] = []
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def handle(request: Request) -> JSONResponse:
        body = b"".join([chunk async for chunk in request.stream()])
        served.append(body)
        return JSONResponse(seen(asgi.verdict(request.scope), body, request.url.query))

    with bound() as (listener, origin):
        client = AsyncOnceguard(**settings)
        guarded = asgi.RequireSignature(app, client=client, origin=origin, max_body_bytes=100_000)
        with uvicorn_with(guarded, listener, client):
            yield origin, served


@contextlib.contextmanager
def fastapi_service(settings: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    served: list[bytes] = []
    app = FastAPI()
    with bound() as (listener, origin):
        client = AsyncOnceguard(**settings)
        signed = RequireSignature(client, origin=origin, max_body_bytes=100_000)

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def handle(
            request: Request,
            verdict: Verdict = Depends(signed),  # noqa: B008 - the name is local
        ) -> JSONResponse:
            body = await request.body()
            served.append(body)
            return JSONResponse(seen(verdict, body, request.url.query))

        with uvicorn_with(app, listener, client):
            yield origin, served


@contextlib.contextmanager
def flask_service(settings: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    served: list[bytes] = []
    app = flask.Flask(__name__)

    @app.route("/<path:path>", methods=["GET", "POST"])
    def handle(path: str) -> flask.Response:  # noqa: ARG001 - the route has it
        body = flask.request.get_data()
        served.append(body)
        query = flask.request.query_string.decode()
        return flask.jsonify(seen(wsgi.verdict(flask.request.environ), body, query))

    with bound() as (listener, origin), Onceguard(**settings) as client:
        app.wsgi_app = wsgi.RequireSignature(  # type: ignore[method-assign]
            app.wsgi_app, client=client, origin=origin, max_body_bytes=100_000
        )
        port = listener.getsockname()[1]
        server = make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno())
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        listener.listen(16)
        thread.start()
        try:
            yield origin, served
        finally:
            server.shutdown()
            thread.join()


GUARDED = [asgi_service, fastapi_service, flask_service]
each_framework = pytest.mark.parametrize("guarded", GUARDED)
REAL: dict[str, Any] = {"base_url": URL, "token": TOKEN, "timeout": 60}


def code_of(answer: httpx.Response) -> str:
    problem = answer.json()
    code: str = (
        problem.get("detail", problem)["code"]
        if isinstance(problem.get("detail"), dict)
        else problem["code"]
    )
    return code
