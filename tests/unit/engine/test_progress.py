"""How far a run is, as it is told."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

import moesim
from moesim.engine import replicas, routing
from moesim.engine.replay.quick import reuse

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
APART = {"prefill": 1, "decode": 1, "bandwidth": "50 GB/s"}
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
    with patch.object(routing, "CELLS", 1 << 12), patch.object(reuse, "ACTIVATIONS", 1 << 12):
        found = moesim.run(SOURCE | choices, progress=lambda *one: told.append(one))
    total = found.summary["steps"] if total is None else total
    finished = [one for one, _ in told]
    assert {of for _, of in told} == {total}
    assert finished == sorted(finished)
    assert finished[-1] == total
    if "workload" not in choices or "arrivals" in choices["workload"]:  # else it is one chunk
        assert len(set(finished)) > 1


@pytest.mark.parametrize(
    ("serving", "phase", "engine"),
    [
        ({"replicas": 2}, "decode", "auto"),
        ({"replicas": 2}, "all", "des"),
        ({"disaggregation": APART}, "all", "auto"),
        ({"disaggregation": {**APART, "first_token": "decode"}}, "all", "auto"),
    ],
)
def test_engines_that_share_requests_tell_of_all(
    serving: dict[str, Any], phase: str, engine: str
) -> None:
    """A run of replicas had shown nothing until its end."""
    told: list[tuple[int, int]] = []
    served = SERVED | {"batching": CONTINUOUS, "arrivals": TIMED, "requests": 12, "phase": phase}
    served |= {"routing": {"kind": "draw", "prompts_from": "decode"}}
    choices = {"workload": served, "serving": serving, "engine": engine, "software": "vllm"}
    with patch.object(replicas, "TURNS_TOLD", 1):
        moesim.run(SOURCE | choices, progress=lambda *one: told.append(one))
    finished = [one for one, _ in told]
    assert {of for _, of in told} == {12}
    assert finished == sorted(finished)
    assert finished[-1] == 12
    assert len(set(finished)) > 2
