"""What choosing a token moves of its logits on a GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.hardware import CostModel
from moesim.hardware.load import as_run_by
from moesim.model import load_model

BANDWIDTH = 1.792e12
"""Of an RTX PRO 6000, bytes a second."""


def sampling_ns(software: str | None, tokens: int, parts: int = 1) -> float:
    """Of so many tokens, of a matrix that so many GPUs share."""
    model = replace(load_model("gpt-oss-20b"), vocab_parts=parts)
    hardware = as_run_by("rtx-pro-6000", software).model_copy(update={"calibrated": None})
    (price,) = CostModel(hardware, model).operations["sampling"].price(np.array([tokens]))
    return float(price)


@pytest.mark.parametrize("parts", [1, 2])
def test_logits_are_read_widened_and_read_again(parts: int) -> None:
    """Ten bytes of each of the 201,088 of a token, on each of the GPUs."""
    of = load_model("gpt-oss-20b").vocab_size * 10
    reached = as_run_by("rtx-pro-6000", "vllm").datasheet.bandwidth_fraction.value
    assert sampling_ns("vllm", 512, parts) == pytest.approx(
        512 * of / (BANDWIDTH * reached) * 1e9, rel=1e-6
    )
    assert sampling_ns("vllm", 0, parts) == sampling_ns(None, 512, parts) == 0


def test_a_host_that_reads_logits_chooses_there() -> None:
    assert as_run_by("rtx-pro-6000", "llama.cpp").sampling_bytes == 0
    assert as_run_by("rtx-pro-6000", "sglang").sampling_bytes == 10
    assert as_run_by("rtx-pro-6000", "moe-infinity").sampling_bytes == 10
