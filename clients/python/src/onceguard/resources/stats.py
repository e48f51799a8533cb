"""Counts and sizes, for operators."""

from __future__ import annotations

from ..transport import Plan, Request, exchange
from ..types import Stats


def read_stats(retries: int) -> Plan[Stats]:
    request = Request("GET", "/v1/stats", repeatable=True)
    return (yield from exchange(request, retries)).read(Stats)
