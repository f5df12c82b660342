"""Every shipped model runs, in every phase that it has."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.experiment.running.run import run
from moesim.model import load_model, model_names
from moesim.trace import NO_EXPERT, Phase, RoutingTrace, TraceMetadata, write_trace

MODELS = [name for name in model_names() if load_model(name).moe_layers]
WITH_PROMPTS = [name for name in MODELS if not load_model(name).has_encoder]
AT_A_DESK = "gpt-oss-20b"
"""Whose prompts run alone there; of others they are part of a run whose laws are checked."""
TOKENS = 2
"""Of each phase, in each of two requests."""


def trace_for(model, path):
    """Two requests of TOKENS of every phase, ids drawn alike; other stacks unused."""
    moe = model.moe_layers[0].moe
    first = [Phase.ENCODE] if model.has_encoder else [Phase.PREFILL]
    phases = np.repeat(np.array([*first, Phase.DECODE], np.uint8), TOKENS)
    position = [*range(TOKENS)] * 2 if model.has_encoder else range(2 * TOKENS)
    shape = (2 * len(phases), len(model.moe_layers), moe.top_k)
    draws = np.random.default_rng(1).random((*shape[:2], moe.experts))
    ids = np.argsort(draws, axis=2)[:, :, : moe.top_k].astype(np.uint16)
    phase = np.tile(phases, 2)
    for layer, spec in enumerate(model.moe_layers):
        if model.has_encoder:
            ids[(phase == Phase.ENCODE) != (spec.stack == "encoder"), layer] = NO_EXPERT
    metadata = TraceMetadata(
        model.name, moe.experts, moe.top_k, tuple(x.index for x in model.moe_layers), "test", "", ""
    )
    columns = {"request_id": np.repeat([0, 1], 2 * TOKENS), "position": np.tile(position, 2)}
    columns = {name: column.astype(np.int32) for name, column in columns.items()}
    write_trace(RoutingTrace(ids, **columns, phase=phase, gate_weights=None, predicted_ids=None,
                             metadata=metadata), path)  # fmt: skip
    return int((ids != NO_EXPERT).sum(axis=(1, 2))[phase == Phase.DECODE].sum())


def played(name, folder, phase, *, check):
    """The result of a ``phase`` of the trace in ``folder``, and nothing went wrong."""
    experiment = {
        "model": name,
        "hardware": "dgx-b200",
        "trace": str(folder / "t.parquet"),
        "parallelism": {"expert": 2},
        "experts": {"capacity": "2 slots/layer"},
        "workload": {"phase": phase},
    }
    result = run(experiment, check=check)
    assert result.summary["status"] == "ok", result.summary["reason"]
    assert result.summary["tokens"] == (4 if phase == "all" else 2) * TOKENS
    return result


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs(name, tmp_path):
    model = load_model(name)
    choices = trace_for(model, tmp_path / "t.parquet")
    # "all" has the passes of both, whose laws are checked there: answers alone are replayed
    played(name, tmp_path, "encode" if model.has_encoder else "all", check=True)
    result = played(name, tmp_path, "decode", check=model.has_encoder)
    assert result.steps["accesses"].sum() == choices
    stack = [x for x in model.moe_layers if x.stack == "decoder"]
    assert result.summary["layer_steps"] == 2 * TOKENS * len(stack)
    assert sum(result.summary["time_share"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == AT_A_DESK else pytest.mark.long)
        for name in WITH_PROMPTS
    ],
)
def test_prompts_run_alone(name, tmp_path):
    trace_for(load_model(name), tmp_path / "t.parquet")
    played(name, tmp_path, "prefill", check=False)
