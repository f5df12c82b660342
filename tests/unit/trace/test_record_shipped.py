"""The recording of the small model that moesim ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moesim.model import load_model
from moesim.trace import Phase, read_trace
from moesim.trace.validate import findings

PATH = Path(__file__).parents[3] / "traces" / "small-moe.parquet"


def test_it_is_small_and_clean_and_fits_its_card():
    trace = read_trace(PATH)
    assert PATH.stat().st_size < 1_000_000
    assert findings(trace) == []
    trace.check_fits(load_model("small-moe"))
    assert trace.metadata.recorder.startswith("moesim")
    assert "bits a byte" in trace.metadata.notes


def test_every_request_has_a_prompt_and_64_decode_tokens():
    trace = read_trace(PATH)
    prompts = np.bincount(trace.request_id[trace.phase == Phase.PREFILL])
    assert sorted(prompts) == list(range(64, 192, 4))
    assert (np.bincount(trace.request_id[trace.phase == Phase.DECODE]) == 64).all()
    first = np.flatnonzero(np.diff(trace.phase.astype(int)) == 1) + 1
    assert (trace.position[first] == prompts).all()


def test_its_weights_are_shares_of_one():
    weights = read_trace(PATH).gate_weights
    assert weights is not None
    assert weights.astype(float).sum(axis=2) == pytest.approx(1, abs=2e-3)
    assert (np.diff(weights.astype(float), axis=2) <= 0).all()
