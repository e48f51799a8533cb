"""Signs what requests sends."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.auth import AuthBase

from .accept import check_for_many
from .auth import REFUSED
from .errors import CannotSign
from .keys import Key
from .signatures import sign_request


class RequestsSignature(AuthBase):
    """Signs each request that requests sends, with a fresh nonce.

    >>> requests.post(
    ...     "https://shop.example/orders",
    ...     json={"item": "lamp"},
    ...     auth=RequestsSignature(key),
    ...     allow_redirects=False,
    ... )

    A signature is for one URL: set ``allow_redirects=False``. The parameters are those of
    :class:`onceguard.HttpxSignature`.
    """

    def __init__(
        self, key: Key, *, repeatable: bool = False, accept_signature: str | None = None
    ) -> None:
        if accept_signature is not None:
            check_for_many(accept_signature)
        self._key = key
        self._repeatable = repeatable
        self._accept_signature = accept_signature

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Adds the signature."""
        if isinstance(request.body, str):
            request.body = request.body.encode()
        unsigned = request.copy()
        request.headers.update(self._sign(unsigned, self._accept_signature))

        def answered(answer: Response, **settings: Any) -> Response:  # noqa: ANN401 - of requests
            return self._answered(unsigned, answer, settings)

        if self._repeatable:
            request.hooks["response"].append(answered)
        return request

    def _answered(
        self, unsigned: PreparedRequest, answer: Response, settings: dict[str, Any]
    ) -> Response:
        """The answer, or the one to the request that is signed as the service asks for."""
        asked = answer.headers.get("Accept-Signature")
        # Of a redirect that was followed, the signature is not ours to mend.
        is_ours = answer.request.url == unsigned.url and answer.status_code in REFUSED
        if asked is None or not is_ours:
            return answer
        try:
            fields = self._sign(unsigned, asked)
        except CannotSign:
            return answer
        again = unsigned.copy()
        again.headers.update(fields)
        # Read to its end, so that its connection serves the next one.
        _ = answer.content
        answer.close()
        repeated: Response = answer.connection.send(again, **settings)
        repeated.history.append(answer)
        repeated.request = again
        return repeated

    def _sign(self, unsigned: PreparedRequest, asked: str | None) -> dict[str, str]:
        parts = urlsplit(unsigned.url or "")
        default = ":443" if parts.scheme == "https" else ":80"
        host = unsigned.headers.get("Host", parts.netloc.removesuffix(default))
        body = unsigned.body or b""
        if not isinstance(body, bytes):
            raise CannotSign("A signed body cannot be a stream: read it, and give its bytes.")
        return sign_request(
            self._key,
            method=unsigned.method or "",
            # As it goes over the wire: what the server sees is what is signed.
            url=f"{parts.scheme}://{host}{unsigned.path_url}",
            headers=unsigned.headers.items(),
            body=body,
            accept_signature=asked,
        )
