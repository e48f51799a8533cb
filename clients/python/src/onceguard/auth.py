"""Signs what httpx sends."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from .keys import Key
from .signatures import sign_request


class HttpxSignature(httpx.Auth):
    """Signs each request that httpx sends, with a fresh nonce, blocking or asyncio.

    >>> httpx.post("https://shop.example/orders", json={"item": "lamp"}, auth=HttpxSignature(key))

    Nothing is sent twice, and a signature is for one URL: leave ``follow_redirects`` off.
    """

    requires_request_body = True

    def __init__(self, key: Key) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the signature."""
        target = request.url.raw_path.decode("ascii")
        fields = sign_request(
            self._key,
            method=request.method,
            # As it goes over the wire: what the server sees is what is signed.
            url=f"{request.url.scheme}://{request.headers['Host']}{target}",
            headers=request.headers.multi_items(),
            body=request.content,
        )
        request.headers.update(fields)
        yield request
