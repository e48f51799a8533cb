"""JSON to dataclasses, and values to JSON. What an answer has beside the fields that are known is
ignored: minor versions add fields."""

from __future__ import annotations

import base64
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

T = TypeVar("T")


def read_time(text: str) -> datetime:
    """RFC 3339 in UTC; Python 3.10 does not read its ``Z``."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def write_time(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone: use datetime.now(timezone.utc)")
    return time.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def write_bytes(content: bytes) -> str:
    return base64.b64encode(content).decode()


def read(kind: type[T], value: Any, **more: Any) -> T:  # noqa: ANN401 - JSON
    """A dataclass from a JSON object; ``more`` are fields that are not in it.

    :raises ValueError: the value is no such object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{kind.__name__} is not an object")
    fields: dict[str, Any] = {}
    for name, hint in _hints(typing.cast("Any", kind)).items():
        if name not in more:
            fields[name] = _read_value(hint, value.get(name), name)
    return kind(**fields, **more)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    return typing.get_type_hints(kind)


def _read_value(hint: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    """A value of this type. Only what may be null may be missing."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(each for each in inner if each is not type(None))
        return _read_value(hint, value, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    if origin is tuple:
        return tuple(_read_value(inner[0], each, name) for each in value)
    if dataclasses.is_dataclass(hint):
        return read(typing.cast("type[Any]", hint), value)
    if hint is datetime:
        return read_time(value)
    if hint is bytes:
        return base64.b64decode(value)
    if hint in (str, int, bool) and type(value) is not hint:
        raise ValueError(f"{name} is not of type {hint.__name__}")
    return value


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller gave."""
    return {name: value for name, value in fields.items() if value is not None}
