"""Models that encode once and decode step by step, on several GPUs; the batch that fits."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.experiment.build import build
from moesim.experiment.fit import largest_fit
from moesim.experiment.fit_passes import Lengths, fullest_passes
from moesim.experiment.resolve import load_experiment
from moesim.experiment.run import run
from moesim.model import load_model
from moesim.trace import NO_EXPERT, RoutingTrace, TraceMetadata, write_trace
from moesim.trace.routing import Phase

MODEL = load_model("nllb-moe-54b")
ENCODED, DECODED, REQUESTS = 7, 4, 12


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    rng, layers = np.random.default_rng(0), MODEL.moe_layers
    of_request = [Phase.ENCODE] * ENCODED + [Phase.DECODE] * DECODED
    phase = np.array(of_request * REQUESTS, np.uint8)
    ids = rng.integers(0, 127, (len(phase), len(layers), 1))
    ids = np.concatenate([ids, (ids + 1) % 128], axis=2).astype(np.uint16)
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
        found[phase] = largest_fit(one, [64], [1])["largest_batch"]
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
