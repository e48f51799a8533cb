"""What an ``Accept-Signature`` field asks for (RFC 9421, section 5), and whether a key can sign
it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .errors import CannotSign
from .fields import Asked, quoted, read_asked
from .keys import Key


@dataclass(frozen=True)
class Form:
    """A signature to make: what it covers, by name, and what it states beside the key and the
    time."""

    label: str
    components: tuple[str, ...]
    nonce: str | None
    tag: str | None


def own_form(fields: list[str]) -> Form:
    """The form that onceguard's default profile wants: its method, URL, and these fields."""
    return Form("sig1", ("@method", "@target-uri", *fields), None, "onceguard")


def asked_forms(field: str, key: Key, has: Callable[[str], bool]) -> list[Form]:
    """The signatures that a field asks for and this key can make; ``has`` says what a request has.

    :raises CannotSign: there is none of them; the message says why.
    """
    asked = read_asked(field)
    if not asked:
        raise CannotSign(f"This Accept-Signature cannot be read (RFC 9421): {field}")
    unfit = {each.label: _unfit(each, key, has) for each in asked}
    forms = [_form(each) for each in asked if unfit[each.label] is None]
    if not forms:
        why = "; ".join(f"{label} {reason}" for label, reason in unfit.items())
        raise CannotSign(f"Accept-Signature asks for what cannot be signed: {why}.")
    return forms


def check_for_many(field: str) -> None:
    """Checks a field that is for many requests."""
    if any("nonce" in each.parameters for each in read_asked(field) or ()):
        raise CannotSign(
            "This Accept-Signature has a nonce, which is for one request. Remove it: each gets a "
            "fresh one."
        )


def _form(asked: Asked) -> Form:
    nonce, tag = asked.parameters.get("nonce"), asked.parameters.get("tag")
    return Form(
        asked.label,
        tuple(identifier[1:-1] for identifier in asked.identifiers),
        nonce if isinstance(nonce, str) else None,
        tag if isinstance(tag, str) else None,
    )


def _unfit(asked: Asked, key: Key, has: Callable[[str], bool]) -> str | None:
    for identifier in asked.identifiers:
        # Neither parameters nor escapes: what is left between the quotes is a name.
        if not re.fullmatch(r'"[^"\\]*"', identifier):
            return f"covers {identifier}, which is not known here"
        if not has(identifier[1:-1]):
            return f"covers {identifier}, which the request does not have"
    if len(set(asked.identifiers)) < len(asked.identifiers):
        return "covers something twice"
    # Another service could use it.
    if not {'"@target-uri"', '"@authority"'} & set(asked.identifiers):
        return "covers neither @target-uri nor @authority, so that it would hold for other services"
    alg = None if key.alg == "ES256K" else key.alg
    for name, value in asked.parameters.items():
        written = f"{name}={quoted(value)}" if isinstance(value, str) else name
        if name in ("created", "expires"):
            if value is not True:
                return f"gives {name} a value, which is the signer's to choose"
        elif name in ("nonce", "tag"):
            if not isinstance(value, str):
                return f"has a {name} that is no string"
        elif name == "alg":
            if value is None or value != alg:
                return f"wants {written}, and the key signs by {key.alg}"
        elif name == "keyid":
            if value != key.keyid:
                return f"wants {written}, and the key is {key.keyid}"
        else:
            return f"has the parameter {name}, which is not known here"
    return None
