"""What llama.cpp sets aside to compute, as it reserved it in runs of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import moesim
from moesim.memory.footprint.compute_buffer import compute_buffer_bytes
from moesim.model import load_model


@pytest.mark.parametrize(
    ("vocabulary", "ubatch", "logits", "context", "reserved_mib"),
    [
        (32_000, 512, 512, 512, 88.51),
        (32_000, 2048, 2048, 2048, 360.05),
        (32_000, 512, 512, 8448, 96.26),
        (151_936, 512, 512, 512, 304.75),
        (151_936, 512, 512, 8704, 304.75),
        (151_936, 512, 4, 4096, 92.01),
        (151_936, 512, 4, 32768, 120.01),
        (151_936, 2048, 4, 4096, 368.05),
    ],
)
def test_a_compute_buffer_is_what_was_reserved(
    vocabulary: int, ubatch: int, logits: int, context: int, reserved_mib: float
) -> None:
    """``llama-bench -v`` of Qwen3-30B-A3B's layers, llama-cpp-python 0.3.36, on a CPU."""
    model = replace(load_model("qwen3-30b-a3b"), vocab_size=vocabulary)
    found = compute_buffer_bytes(model, ubatch, logits, context) / 2**20
    assert found == pytest.approx(reserved_mib, rel=2e-4)


QWEN = "qwen3-30b-a3b@q4_k_m"


def memory_of(software: str, **more: Any) -> dict[str, int]:
    source = {
        "model": QWEN,
        "hardware": "rtx-5090",
        "trace": "stand-in:qwen3-30b-a3b",
        "workload": {"requests": 1, "phase": "decode", "context": 4096},
    }
    return dict(moesim.run(source | {"software": software} | more).summary["memory_bytes"])


def test_it_is_there_before_a_prompt_is_and_older_builds_have_all_logits() -> None:
    """A decode counted its own token's, and layers on the CPU no room to copy a matrix."""
    server, older, nothing = map(memory_of, ("llama.cpp", "llama.cpp@b6xxx", "ideal"))
    assert older["activations"] / 2**20 == pytest.approx(304.75, rel=2e-4)
    assert nothing["activations"] < 2**20 < server["activations"] < older["activations"]
    assert server["expert_slots"] == 0
    beside = memory_of("llama.cpp", experts={"on_cpu": {"layers": 1}})
    largest = max(layer.moe.expert.bytes for layer in load_model(QWEN).moe_layers if layer.moe)
    assert beside["expert_slots"] == 43 * largest  # a third of 128 experts, rounded up
