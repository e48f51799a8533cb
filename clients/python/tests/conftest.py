from __future__ import annotations

from collections.abc import Iterator

import pytest

from onceguard import Onceguard

from .support import TOKEN, URL


@pytest.fixture(scope="session")
def client() -> Iterator[Onceguard]:
    with Onceguard(base_url=URL, token=TOKEN) as client:
        yield client
