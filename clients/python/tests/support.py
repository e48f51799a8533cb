"""What the tests share: where the service is, servers in threads, and a proxy that cuts answers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Literal, TypedDict

import httpx

from onceguard import Key


def setting(name: str) -> str:
    value = os.environ.get(name)
    assert value, f"{name} is not set: run scripts/clients, which starts a service"
    return value


URL = setting("TEST_API_URL")
TOKEN = setting("TEST_API_TOKEN")
#: How many calls are cut, a multiple of 100.
CALLS = int(setting("TEST_CALLS"))


class Parties(TypedDict):
    client_did: str
    server_did: str


def parties() -> Parties:
    """Two DIDs that no other test has."""
    return {"client_did": Key.generate().did, "server_did": Key.generate().did}


Handle = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request that a test's server received."""

    protocol_version = "HTTP/1.1"
    handle_with: ClassVar[Handle]

    def do_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).handle_with(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def cut(self) -> None:
        """Ends the connection, without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serving(handle: Handle) -> Iterator[Server]:
    """An HTTP server on a free port."""
    handler = type("Handler", (Exchange,), {"handle_with": handle})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def url_of(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_port}"


class Cutting:
    """A proxy before the service that cuts the first try of each call: before the service hears of
    it, or after the service has decided."""

    def __init__(self, when: Literal["before", "after"]) -> None:
        self._when = when
        self._lock = threading.Lock()
        self._seen: set[tuple[object, ...]] = set()
        #: How many requests came, and how many of them were cut.
        self.received = self.cut = 0

    def _is_first(self, exchange: Exchange) -> bool:
        key = exchange.headers.get("Idempotency-Key")
        call = (exchange.command, exchange.path, key, exchange.body)
        with self._lock:
            self.received += 1
            first = call not in self._seen
            self._seen.add(call)
            self.cut += first
        return first

    def handle(self, upstream: httpx.Client, exchange: Exchange) -> None:
        first = self._is_first(exchange)
        if first and self._when == "before":
            exchange.cut()
            return
        answer = upstream.request(
            exchange.command,
            URL + exchange.path,
            content=exchange.body,
            # Host too: an agent has signed for this proxy.
            headers=[(name, value) for name, value in exchange.headers.items()],
        )
        if first:
            exchange.cut()
            return
        kept = ("content-type", "etag", "retry-after", "idempotency-replayed")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        exchange.answer(answer.status_code, headers, answer.content)

    @contextmanager
    def running(self) -> Iterator[str]:
        with (
            httpx.Client(timeout=60, limits=httpx.Limits(max_connections=32)) as upstream,
            serving(lambda exchange: self.handle(upstream, exchange)) as server,
        ):
            yield url_of(server)
