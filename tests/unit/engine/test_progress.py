"""How far a run is, as it is told."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

import moesim
from moesim.engine import routing
from moesim.engine.replay.quick import shared

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 4, "phase": "decode"},
    "experts": {"capacity": "8 slots/layer"},
    "records": "step",
}
SERVED = {
    "requests": 6,
    "phase": "decode",
    "lengths": {"kind": "fixed", "input_len": 9, "output_len": 7},
}
TIMED = {"kind": "poisson", "request_rate": "50 requests/s"}
CONTINUOUS = {"kind": "continuous", "scheduler": {"kind": "vllm"}}
PREFETCH = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}


@pytest.mark.parametrize(
    ("choices", "total"),
    [
        ({}, None),
        ({"engine": "des"}, None),
        ({"experts": PREFETCH}, None),
        ({"workload": SERVED | {"batching": CONTINUOUS}}, 6),
        ({"workload": SERVED | {"batching": CONTINUOUS, "arrivals": TIMED}}, 6),
        ({"workload": SERVED | {"batching": CONTINUOUS, "arrivals": TIMED}, "engine": "des"}, 6),
    ],
)
def test_what_stands_rises_to_all(choices: dict[str, Any], total: int | None) -> None:
    """Passes, or requests that are served."""
    told: list[tuple[int, int]] = []
    with patch.object(routing, "CELLS", 1 << 12), patch.object(shared, "ACTIVATIONS", 1 << 12):
        found = moesim.run(SOURCE | choices, progress=lambda *one: told.append(one))
    total = found.summary["steps"] if total is None else total
    finished = [one for one, _ in told]
    assert {of for _, of in told} == {total}
    assert finished == sorted(finished)
    assert finished[-1] == total
    if "workload" not in choices or "arrivals" in choices["workload"]:  # else it is one chunk
        assert len(set(finished)) > 1


def test_replicas_tell_nothing() -> None:
    """Each is an engine of its own."""
    told: list[Any] = []
    served = SERVED | {"batching": CONTINUOUS, "arrivals": TIMED}
    moesim.run(
        SOURCE | {"workload": served, "serving": {"replicas": 2}},
        progress=lambda *one: told.append(one),
    )
    assert not told
