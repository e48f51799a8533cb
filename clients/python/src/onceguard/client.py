"""The client, for blocking code and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType

import httpx

from .auth import HttpxSignature
from .keys import Key
from .resources.claims import AsyncClaims, Claims
from .resources.dids import AsyncDids, Dids
from .resources.events import AsyncEvents, Events
from .resources.identifiers import AsyncIdentifiers, Identifiers
from .resources.instances import AsyncInstances, Instances
from .resources.namespaces import AsyncNamespaces, Namespaces
from .resources.records import AsyncRecords, Records
from .resources.search import find
from .resources.sessions import AsyncSessions, Sessions
from .resources.stats import read_stats
from .resources.verdicts import Headers, judge
from .resources.webhooks import AsyncWebhooks, Webhooks
from .transport import AsyncTransport, Transport
from .types import Found, Stats, Verdict


class Onceguard:
    """A client of onceguard.

    >>> with Onceguard(base_url="http://127.0.0.1:8080", token=token) as client:
    ...     session = client.sessions.open(client_did=alice, server_did=bob)
    ...     client.sessions.claim(session.id, nonce)

    :param token: what ``onceguard token create`` prints.
    :param key: an agent's key, instead of a token: each call is signed with it.
    :param timeout: how long one try may take, in seconds.
    :param retries: how often a call that is safe to repeat is sent again.
    :param http: an ``httpx.Client`` of your own: for proxies, certificates, tests.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str | None = None,
        key: Key | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(timeout=timeout)
        auth = None if key is None else HttpxSignature(key)
        self._transport = Transport(self._http, base_url.rstrip("/"), token, auth, retries)
        #: Sessions, and the nonces in them.
        self.sessions = Sessions(self._transport)
        #: Many claims at once.
        self.claims = Claims(self._transport)
        #: Ids that are used once and are no DID's nonces.
        self.namespaces = Namespaces(self._transport)
        #: Keys and revocations.
        self.dids = Dids(self._transport)
        #: What agents encrypted and their devices share.
        self.records = Records(self._transport)
        #: The log of events.
        self.events = Events(self._transport)
        #: Where events are sent.
        self.webhooks = Webhooks(self._transport)
        #: The processes that serve.
        self.instances = Instances(self._transport)
        #: DIDs as a Universal Resolver gives them.
        self.identifiers = Identifiers(self._transport)

    def verify(
        self,
        *,
        method: str,
        url: str,
        headers: Headers,
        body: bytes = b"",
        profile: str | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Verdict:
        """Has a received request judged, and spends its nonce if it passes. ``url`` is the whole
        URL that was signed; headers and body are as they were received.

        A lost answer is repeated under the same key, so it never reads as a replay. The key is
        made here. Give one only to repeat a call that failed with it; never one that came with
        the request, whose copy would pass with it.

        :raises SignatureRefused: it did not pass; ``code`` says why.
        :raises OnceguardError: there is no verdict. Treat the request as refused.
        """
        retries = self._transport.retries
        plan = judge(method, url, headers, body, profile, session_id, idempotency_key, retries)
        return self._transport.run(plan)

    def search(self, q: str, *, page_size: int | None = None) -> Iterator[Found]:
        """Stored DIDs and sessions that have all these words, newest first. Pages are fetched as
        they are needed. A token finds what it may list.

        >>> for found in client.search("shop.example order"):
        ...     print(found.kind, found.id)
        """
        return find(q, page_size).on(self._transport)

    def stats(self) -> Stats:
        """Counts, sizes, the busiest clients."""
        return self._transport.run(read_stats(self._transport.retries))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Onceguard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncOnceguard:
    """A client of onceguard for asyncio; :class:`Onceguard` describes the parameters and calls.

    >>> async with AsyncOnceguard(base_url="http://127.0.0.1:8080", token=token) as client:
    ...     session = await client.sessions.open(client_did=alice, server_did=bob)
    ...     await client.sessions.claim(session.id, nonce)
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str | None = None,
        key: Key | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._http = http or httpx.AsyncClient(timeout=timeout)
        auth = None if key is None else HttpxSignature(key)
        self._transport = AsyncTransport(self._http, base_url.rstrip("/"), token, auth, retries)
        #: Sessions, and the nonces in them.
        self.sessions = AsyncSessions(self._transport)
        #: Many claims at once.
        self.claims = AsyncClaims(self._transport)
        #: Ids that are used once and are no DID's nonces.
        self.namespaces = AsyncNamespaces(self._transport)
        #: Keys and revocations.
        self.dids = AsyncDids(self._transport)
        #: What agents encrypted and their devices share.
        self.records = AsyncRecords(self._transport)
        #: The log of events.
        self.events = AsyncEvents(self._transport)
        #: Where events are sent.
        self.webhooks = AsyncWebhooks(self._transport)
        #: The processes that serve.
        self.instances = AsyncInstances(self._transport)
        #: DIDs as a Universal Resolver gives them.
        self.identifiers = AsyncIdentifiers(self._transport)

    async def verify(
        self,
        *,
        method: str,
        url: str,
        headers: Headers,
        body: bytes = b"",
        profile: str | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Verdict:
        """Has a received request judged, and spends its nonce if it passes."""
        retries = self._transport.retries
        plan = judge(method, url, headers, body, profile, session_id, idempotency_key, retries)
        return await self._transport.run(plan)

    def search(self, q: str, *, page_size: int | None = None) -> AsyncIterator[Found]:
        """Stored DIDs and sessions that have all these words; ``async for`` fetches the pages."""
        return find(q, page_size).on_async(self._transport)

    async def stats(self) -> Stats:
        """Counts, sizes, the busiest clients."""
        return await self._transport.run(read_stats(self._transport.retries))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncOnceguard:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
