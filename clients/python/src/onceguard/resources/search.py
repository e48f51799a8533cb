"""The search for stored DIDs and sessions by their words."""

from __future__ import annotations

from typing import Any

from .. import errors
from ..transport import read
from ..types import Found, FoundDid, FoundSession
from .pages import Listing, filters


def find(q: str, page_size: int | None) -> Listing[Found]:
    return Listing("/v1/search", _found, filters(q=q, limit=page_size))


def _found(item: Any) -> Found:  # noqa: ANN401 - JSON
    kind = item.get("kind") if isinstance(item, dict) else None
    if kind == "did":
        return read(FoundDid, item)
    if kind == "session":
        return read(FoundSession, item)
    raise errors.UnexpectedAnswer(f"The answer has a kind that is not known here: {kind}.")
