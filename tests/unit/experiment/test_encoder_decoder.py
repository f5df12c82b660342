"""Models that encode once and decode step by step, on several GPUs; the batch that fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.experiment.building.build import build
from moesim.experiment.building.footprints import footprint_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import largest_fit
from moesim.experiment.questions.fit_passes import Lengths, decode_step, fullest_passes
from moesim.experiment.running.run import run
from moesim.model import load_model
from moesim.trace import NO_EXPERT, RoutingTrace, TraceMetadata, read_trace, write_trace
from moesim.trace.routing import Phase

MODEL = load_model("nllb-moe-54b")
ENCODED, DECODED, REQUESTS = 7, 4, 12


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    rng, layers = np.random.default_rng(0), MODEL.moe_layers
    of_request = [Phase.ENCODE] * ENCODED + [Phase.DECODE] * DECODED
    phase = np.array(of_request * REQUESTS, np.uint8)
    first = rng.integers(0, 127, (len(phase), len(layers), 1))
    ids = np.concatenate([first, (first + 1) % 128], axis=2).astype(np.uint16)
    stack = np.array([layer.stack == "encoder" for layer in layers])
    ids[np.not_equal(stack, (phase == Phase.ENCODE)[:, None])] = NO_EXPERT
    position = np.array([*range(ENCODED), *range(DECODED)] * REQUESTS, np.int32)
    path = tmp_path_factory.mktemp("traces") / "translation.parquet"
    metadata = TraceMetadata(
        "nllb-moe-54b", 128, 2, tuple(layer.index for layer in layers), "toy", "toy", "none"
    )
    number = np.repeat(np.arange(REQUESTS, dtype=np.int32), ENCODED + DECODED)
    write_trace(RoutingTrace(ids, number, position, phase, None, None, metadata), path)
    return str(path)


def experiment(trace, phase="all", batching="static", gating="dynamic", **parallelism):
    return load_experiment(
        {
            "model": "nllb-moe-54b",
            "hardware": "v100-sxm2-32gb",
            "trace": trace,
            "workload": {"phase": phase, "batching": {"kind": batching, "batch_size": 6}},
            "parallelism": parallelism,
            "gating": {"kind": gating},
        }
    ).experiment


@pytest.mark.parametrize("batching", ["static", "refill"])
@pytest.mark.parametrize("parallelism", [{"expert": 8}, {"expert": 16, "dense": "tensor"}])
def test_encode_once_then_decode(trace_file, batching, parallelism) -> None:
    schedule = build(experiment(trace_file, batching=batching, **parallelism)).case.schedule
    of_batch = [Phase.ENCODE] + [Phase.DECODE] * DECODED
    assert schedule.phase.tolist() == of_batch * 2
    assert np.diff(schedule.offsets).tolist() == [6 * ENCODED, *[6] * DECODED] * 2


def test_all_is_encode_and_decode_together(trace_file) -> None:
    every, encode, decode = (
        run(experiment(trace_file, phase=phase, expert=16, nodes=2)).summary
        for phase in ("all", "encode", "decode")
    )
    assert every["tokens"] == encode["tokens"] + decode["tokens"]
    assert every["layer_steps"] == encode["layer_steps"] + decode["layer_steps"]
    assert every["duration_ms"] == pytest.approx(encode["duration_ms"] + decode["duration_ms"])


@pytest.mark.parametrize("gating", ["dynamic", "static", "no_drop"])
def test_the_largest_batch_is_limited_by_encoder_and_decoder(trace_file, gating) -> None:
    found = {}
    for phase in ("encode", "decode", "all"):
        one = experiment(trace_file, phase, gating=gating, expert=8)
        found[phase] = largest_fit(one, None, [1])["largest_batch"]
    assert found["all"] == min(found["encode"], found["decode"])
    built = build(one)
    lengths = Lengths.of(built.case, None)
    assert lengths == Lengths(ENCODED, 0, DECODED, None)
    for batch, fits in ((found["all"], True), (found["all"] + 1, False)):
        assert (fullest_passes(built, batch, lengths).total.max() <= built.limit_bytes) == fits


def test_memory_by_batch_ends_with_what_does_not_fit(trace_file) -> None:
    answer = largest_fit(experiment(trace_file, gating="static", expert=8), [64], [1])
    rows = answer["memory_by_batch"]
    assert [row["fits"] for row in rows] == [True] * (len(rows) - 1) + [False]
    assert rows[-2]["batch"] == answer["largest_batch"]
    totals = [row["total_bytes"] for row in rows]
    assert totals == sorted(totals)
    parts = [name for name in rows[0] if name.endswith("_bytes") and name != "total_bytes"]
    assert all(sum(row[name] for name in parts) == row["total_bytes"] for row in rows)
    assert rows[0]["batch"] == 8
    assert rows[-1]["masks_bytes"] > rows[0]["masks_bytes"] > 0


KEPT = 2 * 2048 * 2
"""Bytes of keys and values of a token in one of the decoder's 24 layers, and of a source token."""


@pytest.mark.parametrize("parallelism", [{"expert": 2}, {"expert": 2, "dense": "tensor"}])
def test_the_cache_holds_the_source_beside_the_decoders_own(trace_file, parallelism) -> None:
    """Three requests a GPU, or six with half of the heads; nothing while the encoder runs."""
    built = build(experiment(trace_file, **parallelism))
    kv = footprint_of(built.case, built.residences).parts["kv_cache"]
    of_batch = [0, *(3 * 24 * KEPT * (step + 1 + ENCODED) for step in range(DECODED))]
    assert kv.tolist() == [[size] * 2 for size in of_batch * 2]
    largest = decode_step(built, 6, DECODED, built.residences).parts["kv_cache"]
    assert largest.tolist() == [[of_batch[-1]] * 2]


def test_a_trace_without_encoder_tokens_has_no_source(trace_file, tmp_path) -> None:
    """The decoder alone is faster by what it does with the source, and holds less."""
    trace = read_trace(trace_file)
    decoder = trace.phase == Phase.DECODE
    columns = ("expert_ids", "request_id", "position", "phase")
    alone = RoutingTrace(
        **{name: getattr(trace, name)[decoder] for name in columns},
        gate_weights=None,
        predicted_ids=None,
        metadata=trace.metadata,
    )
    path = str(tmp_path / "decoder.parquet")
    write_trace(alone, path)
    without, having = (build(experiment(of, "decode", expert=8)) for of in (path, trace_file))
    held = [footprint_of(one.case, one.residences).parts["kv_cache"] for one in (without, having)]
    busy = having.case.schedule.gpu[: having.case.schedule.offsets[1]]
    more = np.bincount(busy, minlength=8) * 24 * KEPT * ENCODED
    assert (held[1] - held[0] == more).all()
    prices: Any = having.case.prices
    first, later = (
        int(prices.cross_attention_ns(MODEL.layers[-1], ENCODED, ENCODED, projected))
        for projected in (ENCODED, 0)
    )
    fast, slow = (run(experiment(of, "decode", expert=8)) for of in (path, trace_file))
    gained = slow.summary["duration_ms"] - fast.summary["duration_ms"]
    assert gained == pytest.approx(2 * 24 * (first + 3 * later) / 1e6, rel=1e-6)
    assert first > later > 0
