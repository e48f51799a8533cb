"""A dependency for single routes of FastAPI. For a whole application, use ``onceguard.asgi``."""

from __future__ import annotations

from fastapi import HTTPException, Request

from . import guard
from .asgi import target
from .client import AsyncOnceguard
from .errors import OnceguardError
from .types import Verdict


class RequireSignature:
    """Asks for a signed request, and gives the route its signer.

    >>> signed = RequireSignature(client, origin="https://shop.example")
    >>> @app.post("/orders")
    ... async def order(item: Item, signer: Annotated[Verdict, Depends(signed)]) -> str:
    ...     return signer.did

    FastAPI reads a form before its dependencies run: guard routes with forms by
    ``onceguard.asgi.RequireSignature``.
    """

    def __init__(
        self,
        client: AsyncOnceguard,
        *,
        origin: str,
        profile: str | None = None,
        max_body_bytes: int = guard.MAX_BODY_BYTES,
    ) -> None:
        self._client = client
        self._origin = guard.origin_of(origin)
        self._profile = profile
        self._max_body_bytes = max_body_bytes

    async def __call__(self, request: Request) -> Verdict:
        """The verdict on a request that passed."""
        headers = request.headers.items()
        refused = guard.precheck(headers, self._profile)
        if refused is not None:
            raise _http_exception(refused)
        body = await request.body()
        if len(body) > self._max_body_bytes:
            raise _http_exception(guard.too_large(self._max_body_bytes))
        try:
            return await self._client.verify(
                method=request.method,
                url=self._origin + target(request.scope),
                headers=headers,
                body=body,
                profile=self._profile,
            )
        except OnceguardError as error:
            raise _http_exception(guard.of_error(error, headers, self._profile)) from None


def _http_exception(refused: guard.Refusal) -> HTTPException:
    return HTTPException(refused.status, dict(refused.problem), dict(refused.headers))
