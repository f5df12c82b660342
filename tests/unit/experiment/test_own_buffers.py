"""What llama.cpp sets aside to compute, as it reserved it in runs of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moesim.experiment.questions import shares
from moesim.model import load_model


@pytest.mark.parametrize(
    ("vocabulary", "ubatch", "context", "reserved_mib"),
    [
        (32_000, 512, 512, 88.51),
        (32_000, 2048, 2048, 360.05),
        (32_000, 512, 8448, 96.26),
        (151_936, 512, 512, 304.75),
        (151_936, 512, 8704, 304.75),
    ],
)
def test_a_compute_buffer_is_what_was_reserved(
    monkeypatch: pytest.MonkeyPatch,
    vocabulary: int,
    ubatch: int,
    context: int,
    reserved_mib: float,
) -> None:
    """``llama-bench -v`` of Qwen3-30B-A3B's layers, llama-cpp-python 0.3.36, on a CPU."""
    monkeypatch.setattr(shares, "UBATCH", ubatch)
    model = replace(load_model("qwen3-30b-a3b"), vocab_size=vocabulary)
    found = shares.compute_buffer_bytes(model, context) / 2**20
    assert found == pytest.approx(reserved_mib, rel=2e-4)
