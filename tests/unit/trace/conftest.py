"""Small traces to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moesim.trace import Phase, RoutingTrace, TraceMetadata

ROOT = Path(__file__).parents[3]


def build(ids, lengths, *, experts=8, first=0, phase=Phase.DECODE, weights=None, predicted=None):
    ids = np.ascontiguousarray(ids, dtype=np.uint16)
    tokens, layers, top_k = ids.shape
    assert sum(lengths) == tokens
    return RoutingTrace(
        expert_ids=ids,
        request_id=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        position=np.concatenate([first + np.arange(n) for n in lengths]).astype(np.int32),
        phase=np.full(tokens, phase, dtype=np.uint8),
        gate_weights=None if weights is None else np.asarray(weights, dtype=np.float16),
        predicted_ids=predicted,
        metadata=TraceMetadata(
            None, experts, top_k, tuple(range(layers)), "made for a test", "none", "none"
        ),
    )


def random_ids(generator, tokens, layers, experts, top_k):
    keys = generator.random((tokens, layers, experts))
    return np.argsort(keys, axis=2)[:, :, :top_k].astype(np.uint16)


@pytest.fixture
def make():
    return build


@pytest.fixture
def random_trace():
    """Five requests; skewed, with weights, a look-ahead and some unused slots."""
    generator = np.random.default_rng(7)
    tokens, layers, experts, top_k = 61, 3, 8, 3
    keys = generator.random((tokens, layers, experts)) - np.linspace(0, 0.5, experts)
    ids = np.argsort(keys, axis=2)[:, :, :top_k].astype(np.uint16)
    ids[::5, 1, 2] = 65535
    weights = generator.random(ids.shape).astype(np.float16)
    predicted = random_ids(generator, tokens, layers, experts, top_k)
    return build(ids, [20, 1, 15, 10, 15], weights=weights, predicted=predicted)


@pytest.fixture
def quickstart():
    return ROOT / "traces" / "quickstart.parquet"


@pytest.fixture
def recorded():
    """The recording of which the quickstart is an excerpt; it lies beside some checkouts only."""
    path = ROOT.parent / "shared" / "data" / "routing" / "gptoss20b_decode_160req.npz"
    if not path.exists():
        pytest.skip("the whole recording is not here")
    return path
