"""What is known of a run is freed with it; Python looks for cycles of objects seldom."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.engine.routing import Routing
from moesim.engine.views import Views
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment


def test_views_are_freed_at_once() -> None:
    experts = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}
    names = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet"}
    case = build(load_experiment(names | {"experts": experts}).experiment, 20).case
    gc.disable()
    try:
        views = Views(case, Routing(case), lambda *_: None)
        views.predictions(0, 5, lambda *_: {})
        there = ref(views)
        del views
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("run", [run_des, run_replay])
def test_a_finished_run_is_freed(run: Callable[..., Any]) -> None:
    """With rows that are counted in the trace, and an exchange of counts."""
    source = {
        "model": "gpt-oss-20b",
        "hardware": "dgx-h100",
        "trace": "traces/quickstart.parquet",
        "parallelism": {"expert": 4},
        "workload": {"batching": {"kind": "static", "batch_size": 8}},
    }
    built = build(load_experiment(source).experiment, 5)
    assert built.case.exchange_ns > 0
    run(built.case, records="summary")
    parts = [ref(part) for part in (built.case, built.case.schedule, built.case.placement)]
    del built
    gc.collect()
    assert [part() for part in parts] == [None] * 3
