"""What the middleware finds malformed, the service does, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onceguard import Key, Onceguard, SignatureRefused, guard, sign_request


def test_what_is_malformed_is_so_for_the_service_too(client: Onceguard) -> None:
    vectors = json.loads((Path(__file__).parents[2] / "vectors" / "malformed.json").read_text())
    for kind in ("readable", "malformed"):
        for inputs, signatures in vectors[kind]:
            lines = [("Signature-Input", line) for line in inputs]
            lines += [("Signature", line) for line in signatures]
            refused = guard.precheck(lines, None)
            with pytest.raises(SignatureRefused) as judged:
                client.verify(method="GET", url="https://shop.example/", headers=lines)
            is_malformed = judged.value.code == "signature_malformed"
            assert is_malformed == (kind == "malformed"), lines
            assert (refused is not None) == is_malformed, lines
    signed = sign_request(Key.generate(), method="GET", url="https://shop.example/")
    padded = {**signed, "Signature-Input": signed["Signature-Input"] + ";a" * 4096}
    assert guard.precheck(list(signed.items()), None) is None
    assert guard.precheck(list(padded.items()), None) is not None
