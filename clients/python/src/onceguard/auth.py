"""Signs what httpx sends."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from .accept import check_for_many
from .errors import CannotSign
from .keys import Key
from .signatures import sign_request

#: The request was refused, and a signature may mend it.
REFUSED = (401, 403)


class HttpxSignature(httpx.Auth):
    """Signs each request that httpx sends, with a fresh nonce, blocking or asyncio.

    >>> httpx.post("https://shop.example/orders", json={"item": "lamp"}, auth=HttpxSignature(key))

    Nothing is sent twice, unless it is ``repeatable`` and a service asks for another signature.
    Where that cannot be made, its answer is returned. A signature is for one URL: leave
    ``follow_redirects`` off.

    :param repeatable: whether what these requests do may be done twice. Then one that is refused
        with 401 or 403 and ``Accept-Signature`` is sent once more, signed as that field asks for,
        with a fresh nonce.
    :param accept_signature: what a service asks for in ``Accept-Signature`` (RFC 9421, section 5),
        known before: all requests are signed so. Without it, they are signed as onceguard's default
        profile wants it.
    """

    requires_request_body = True

    def __init__(
        self, key: Key, *, repeatable: bool = False, accept_signature: str | None = None
    ) -> None:
        if accept_signature is not None:
            check_for_many(accept_signature)
        self._key = key
        self._repeatable = repeatable
        self._accept_signature = accept_signature

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the signature."""
        unsigned = request.headers.copy()
        request.headers.update(self._sign(request, unsigned, self._accept_signature))
        answer = yield request
        asked = answer.headers.get("Accept-Signature")
        if not self._repeatable or asked is None or answer.status_code not in REFUSED:
            return
        try:
            fields = self._sign(request, unsigned, asked)
        except CannotSign:
            return
        request.headers = httpx.Headers(unsigned)
        request.headers.update(fields)
        yield request

    def _sign(
        self, request: httpx.Request, unsigned: httpx.Headers, asked: str | None
    ) -> dict[str, str]:
        target = request.url.raw_path.decode("ascii")
        return sign_request(
            self._key,
            method=request.method,
            # As it goes over the wire: what the server sees is what is signed.
            url=f"{request.url.scheme}://{unsigned['Host']}{target}",
            headers=unsigned.multi_items(),
            body=request.content,
            accept_signature=asked,
        )
