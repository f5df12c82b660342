"""What a run leaves out, by layer and step: it adds up to what the summary has of all."""

from __future__ import annotations

import pytest

import moesim

SKIPS = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "experts": {"capacity": "8 slots/layer", "miss": {"kind": "skip"}, "initial": "most_used"},
    "warm_up": "0 %",
}
DROPS = {
    **SKIPS,
    "workload": {"batching": {"batch_size": 16}, "requests": 16},
    "experts": {"capacity": "all"},
    "gating": {"kind": "static", "capacity_fraction": "5 %"},
}


@pytest.mark.parametrize(("source", "what"), [(SKIPS, "skipped"), (DROPS, "dropped")])
def test_layers_add_up_to_the_summary(source: dict[str, object], what: str) -> None:
    found = moesim.run(source, limit_steps=50)
    layers, summary = found.layers, found.summary
    assert layers[f"{what}_choices"].sum() == summary[f"{what}_choices"] > 0
    shares = layers[f"{what}_gate_weight_share"]
    assert 0 <= shares.min() < shares.max() <= 1
    by_layer = layers.groupby("layer")[f"{what}_gate_weight_share"].mean()
    assert by_layer.nunique() > 1
    if what == "skipped":  # a token a step, whose weights add up to one
        assert shares.mean() == pytest.approx(summary["skipped_gate_weight_share"], rel=1e-3)


def test_nothing_is_told_of_what_leaves_nothing_out() -> None:
    found = moesim.run({**SKIPS, "experts": {"capacity": "8 slots/layer"}}, limit_steps=20)
    assert not [name for name in found.layers.columns if "skipped" in name or "dropped" in name]
