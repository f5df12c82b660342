"""Every shipped model runs, in every phase that it has."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.experiment.running.run import run
from moesim.model import load_model, model_names
from moesim.trace import NO_EXPERT, Phase, RoutingTrace, TraceMetadata, write_trace

MODELS = [name for name in model_names() if load_model(name).moe_layers]
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


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs(name, tmp_path):
    model = load_model(name)
    choices = trace_for(model, tmp_path / "t.parquet")
    experiment = {
        "model": name,
        "hardware": "dgx-b200",
        "trace": str(tmp_path / "t.parquet"),
        "parallelism": {"expert": 2},
        "experts": {"capacity": "2 slots/layer"},
    }
    # "all" has the passes of both, whose laws are checked there: alone each is replayed
    alone = {"encode": True} if model.has_encoder else {"all": True, "prefill": False}
    checked = {**alone, "decode": model.has_encoder}
    for phase, check in checked.items():
        result = run({**experiment, "workload": {"phase": phase}}, check=check)
        assert result.summary["status"] == "ok", result.summary["reason"]
        assert result.summary["tokens"] == (4 if phase == "all" else 2) * TOKENS
    assert result.steps["accesses"].sum() == choices
    stack = [x for x in model.moe_layers if x.stack == "decoder"]
    assert result.summary["layer_steps"] == 2 * TOKENS * len(stack)
    assert sum(result.summary["time_share"].values()) == pytest.approx(1)
