"""Whether ``Signature-Input`` and ``Signature`` can be read at all: structured fields (RFC 8941) as
RFC 9421 has them. This only finds what is malformed for certain; onceguard judges the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LABEL = r"([a-z*][a-z0-9_.*-]*)="
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BYTES = r":[A-Za-z0-9+/=]*:"
_WORD = r"[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*"
_VALUE = rf"(?:{_STRING}|{_BYTES}|\?[01]|-?[0-9]+(?:\.[0-9]+)?|{_WORD})"
_PARAMETERS = rf"(?:; *[a-z*][a-z0-9_.*-]*(?:={_VALUE})?)*"
_COMPONENT = _STRING + _PARAMETERS
_INPUT = re.compile(rf"{_LABEL}\( *(?:{_COMPONENT}(?: +{_COMPONENT})*)? *\){_PARAMETERS}")
_SIGNATURE = re.compile(_LABEL + _BYTES + _PARAMETERS)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
#: onceguard reads no longer field.
_MOST = 8192


def are_malformed(inputs: Iterable[str], signatures: Iterable[str]) -> bool:
    """Whether no request with these lines can pass. Both fields have the same labels, each once."""
    stated, signed = _labels(inputs, _INPUT), _labels(signatures, _SIGNATURE)
    return stated is None or signed is None or sorted(stated) != sorted(signed)


def _labels(lines: Iterable[str], member: re.Pattern[str]) -> list[str] | None:
    """The labels of a dictionary of such members; None if it is none, or has one twice."""
    text = ", ".join(line.strip(" \t") for line in lines if line.strip(" \t"))
    labels: list[str] = []
    at = 0
    if not text:
        return labels
    while len(text) <= _MOST:
        found = member.match(text, at)
        if found is None or found[1] in labels:
            return None
        labels.append(found[1])
        if found.end() == len(text):
            return labels
        comma = _COMMA.match(text, found.end())
        if comma is None:
            return None
        at = comma.end()
    return None
