"""``Signature-Input``, ``Signature`` and ``Accept-Signature`` as structured fields (RFC 8941), in
the form that RFC 9421 gives them. What is malformed here is so for certain; onceguard judges the
rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = r"[a-z*][a-z0-9_.*-]*"
_LABEL = rf"({_NAME})="
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BYTES = r":[A-Za-z0-9+/=]*:"
_WORD = r"[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*"
_VALUE = rf"(?:{_STRING}|{_BYTES}|\?[01]|-?[0-9]+(?:\.[0-9]+)?|{_WORD})"
_PARAMETER = re.compile(rf"; *({_NAME})(?:=({_VALUE}))?")
_PARAMETERS = rf"(?:; *{_NAME}(?:={_VALUE})?)*"
_COMPONENT = re.compile(_STRING + _PARAMETERS)
_LIST = rf" *(?:{_COMPONENT.pattern}(?: +{_COMPONENT.pattern})*)? *"
_INPUT = re.compile(rf"{_LABEL}\(({_LIST})\)({_PARAMETERS})")
_SIGNATURE = re.compile(_LABEL + _BYTES + _PARAMETERS)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
#: onceguard reads no longer field.
_MOST = 8192


def are_malformed(inputs: Iterable[str], signatures: Iterable[str]) -> bool:
    """Whether no request with these lines can pass. Both fields have the same labels, each once."""
    stated, signed = _labels(inputs, _INPUT), _labels(signatures, _SIGNATURE)
    return stated is None or signed is None or sorted(stated) != sorted(signed)


@dataclass(frozen=True)
class Asked:
    """A signature that is asked for."""

    label: str
    #: What it must cover, as it is written.
    identifiers: tuple[str, ...]
    #: A text, True where no value is written, or None for a value of another kind.
    parameters: Mapping[str, str | bool | None]


def read_asked(text: str) -> list[Asked] | None:
    """What an ``Accept-Signature`` field asks for; None if it is malformed."""
    members = _members([text], _INPUT)
    if members is None:
        return None
    return [
        Asked(
            label,
            tuple(_COMPONENT.findall(components)),
            {name: _value(value) for name, value in _PARAMETER.findall(parameters)},
        )
        for label, components, parameters in (member.groups() for member in members)
    ]


def quoted(text: str) -> str:
    """A string as a structured field (RFC 8941, section 4.1.6)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _value(text: str) -> str | bool | None:
    if text in ("", "?1"):
        return True
    return re.sub(r'\\(["\\])', r"\1", text[1:-1]) if text.startswith('"') else None


def _labels(lines: Iterable[str], member: re.Pattern[str]) -> list[str] | None:
    members = _members(lines, member)
    return None if members is None else [found[1] for found in members]


def _members(lines: Iterable[str], member: re.Pattern[str]) -> list[re.Match[str]] | None:
    """The members of a dictionary of such members; None if it is none, or has a label twice."""
    text = ", ".join(line.strip(" \t") for line in lines if line.strip(" \t"))
    members: list[re.Match[str]] = []
    at = 0
    if not text:
        return members
    while len(text) <= _MOST:
        found = member.match(text, at)
        if found is None or any(found[1] == earlier[1] for earlier in members):
            return None
        members.append(found)
        if found.end() == len(text):
            return members
        comma = _COMMA.match(text, found.end())
        if comma is None:
            return None
        at = comma.end()
    return None
