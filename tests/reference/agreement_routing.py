"""Rules of routing: the engine's transforms against plain ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moesim.experiment.loading.batches import Batches
from moesim.trace.transforming import transform
from moesim.trace.transforms import registry
from moesim.trace.transforms.base import Transform
from moesim.workload.batching import registry as batchings

from .reference_routing import Rule, pass_of_rows, reroute
from .reference_words import Config, Model, Trace
from .strategies import Case
from .wiring import engine_model, engine_trace, percent

SHARES = {"p", "ratio", "keep", "learn"}


def same_routing(case: Case, recorded: tuple[Trace, Model, list[Rule]]) -> None:
    """The trace of ``case`` is what its rules make of the recording, and so much is lost of each
    token's weight.
    """
    trace, model, rules = recorded
    before = replace(case, trace=trace, model=model, recorded=None)
    theirs = engine_trace(before, engine_model(model, case.config))
    passes = pass_of_rows(trace, case.config)
    known = None if passes is None else batches_of(case.config).passes(theirs)
    found = transform(theirs, [made(rule) for rule in rules], passes=known)
    for name, expected in case.arrays().items():
        np.testing.assert_array_equal(getattr(found.trace, name), expected, err_msg=name)
    mine = reroute(trace, model, rules, passes)
    assert found.changed == mine.changed
    if mine.changed:
        assert found.experts.tolist() == [case.model.experts] * len(model.moe_layers)
        assert bool(found.varies.any()) == case.model.varies
    assert found.by_token is not None
    assert found.by_token.recorded.tolist() == mine.recorded
    assert found.by_token.lost.keys() == mine.lost.keys()
    for name, lost in mine.lost.items():
        assert found.by_token.lost[name].tolist() == pytest.approx(lost, abs=1e-12)


def batches_of(config: Config) -> Batches:
    """Which tokens share a forward pass, as an experiment says it."""
    batching: Any = batchings.get(config.batching)
    phase: Any = config.phase
    return Batches(batching(batch_size=config.batch_size), phase, None, config.chunk, config.gpus)


def made(rule: Rule) -> Transform:
    """The transform, its shares as files have them."""
    said: dict[str, Any] = {
        key: percent(value) if key in SHARES else value
        for key, value in rule.items()
        if key != "kind"
    }
    return registry.get(rule["kind"])(**said)
