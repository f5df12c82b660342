"""What prefetchers saw of a run is freed with it; Python looks for cycles of objects seldom."""

from __future__ import annotations

import gc
from weakref import ref

from moesim.engine.routing import Routing
from moesim.engine.views import Views
from moesim.experiment.build import build
from moesim.experiment.resolve import load_experiment


def test_views_are_freed_at_once() -> None:
    experts = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}
    names = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet"}
    case = build(load_experiment(names | {"experts": experts}).experiment, 20).case
    gc.disable()
    try:
        views = Views(case, Routing(case))
        views.predictions(0, 5)
        there = ref(views)
        del views
        assert there() is None
    finally:
        gc.enable()
