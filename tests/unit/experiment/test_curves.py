"""Curves of a trace are the engine's misses at every size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.program import Program
from moesim.engine.tally import Tally
from moesim.experiment.building.build import build
from moesim.experiment.questions.curves import COLUMNS, POLICIES, WHOLE, miss_curves, whole
from moesim.memory.policies import registry
from moesim.trace import read_trace, write_trace
from moesim.trace.slicing import slice_trace

RUNS = {"decode": 1, "all": 3}
"""Batch sizes by phase; the second needs up to all 32 experts in a pass."""
SLOTS = (1, 3, 8, 17, 31)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Prompts and answers of three requests."""
    whole_trace = read_trace("traces/small-moe.parquet")
    path = tmp_path_factory.mktemp("curves") / "short.parquet"
    write_trace(slice_trace(whole_trace, slice(0, 3), None, slice(None)), path)
    return path


@pytest.fixture(scope="module")
def trace(path):
    return read_trace(path)


@pytest.fixture(scope="module")
def case_of(path):
    @cache
    def of(phase):
        batching = {"kind": "static", "batch_size": RUNS[phase]}
        source = {
            "model": "small-moe",
            "hardware": "rtx-4060-8gb",
            "trace": str(path),
            "workload": {"batching": batching, "phase": phase},
            "experts": {"capacity": "8 slots/layer"},
        }
        return build(moesim.load_experiment(source).experiment).case

    return of


def engine_misses(case, policy, slots):
    """int64[layers]."""
    case = replace(case, policy=policy, slots=np.full_like(case.slots, slots))
    tally = Tally(case)
    for chunk in Program(case).chunks():
        tally.add(chunk)
    return tally.total().misses.sum(axis=(0, 2))


@pytest.mark.parametrize("phase", RUNS)
@pytest.mark.parametrize("kind", [k for k, one in registry.components.items() if not one.restarts])
def test_a_run_misses_as_much(trace, case_of, kind, phase):
    curves = miss_curves(trace, [kind], batch_size=RUNS[phase], phase=phase)
    by_layer = curves.pivot_table(values="misses", index="layer", columns="slots")
    for slots in SLOTS:
        misses = engine_misses(case_of(phase), registry.get(kind)(), slots)
        assert by_layer[slots].drop(WHOLE).tolist() == misses.tolist()
        assert by_layer[slots][WHOLE] == misses.sum()


def test_the_table_holds_every_policy_layer_and_size(trace):
    curves = miss_curves(trace)
    assert tuple(curves.columns) == COLUMNS
    places = curves[["policy", "layer", "slots"]].itertuples(index=False, name=None)
    wanted = [(k, n, s) for k in POLICIES for n in range(WHOLE, 8) for s in range(1, 33)]
    assert list(places) == wanted
    np.testing.assert_array_equal(curves["miss_ratio"], curves["misses"] / curves["activations"])
    assert set(curves["method"]) == {"one pass", "simulated"}
    assert (curves[curves["policy"] == "lru"]["method"] == "one pass").all()
    over_all = whole(curves)["min"]
    assert over_all["misses"][32] == sum(len(np.unique(ids)) for ids in decoded(trace))


def decoded(trace):
    return [trace.expert_ids[trace.phase == 1][:, layer] for layer in range(trace.moe_layers)]


def test_the_textbook_protects_nothing(trace):
    """A step's own experts evict one another: 3 slots never hit what the step before left first."""
    step, textbook = (
        whole(miss_curves(trace, ["lru", "min"], rule=rule)) for rule in ("step", "textbook")
    )
    assert (textbook["min"]["misses"] <= textbook["lru"]["misses"]).all()
    assert (textbook["lru"]["misses"] != step["lru"]["misses"]).any()
    assert (textbook["lru"]["method"] == "one pass").all()
    assert (textbook["min"]["method"] == "one pass").all()
    assert (textbook["lru"]["activations"] == step["lru"]["activations"]).all()


def test_a_layer_without_choices_has_no_ratio(trace):
    ids = trace.expert_ids.copy()
    ids[:, 2] = 65535
    curves = miss_curves(replace(trace, expert_ids=ids))
    silent = curves[curves["layer"] == 2]
    assert (silent["activations"] == 0).all()
    assert (silent["misses"] == 0).all()
    assert silent["miss_ratio"].isna().all()


@pytest.mark.parametrize(
    ("policies", "options", "words"),
    [
        (["lur"], {}, "--policy: 'lur' is no cache policy; allowed: .*did you mean 'lru'"),
        (["gate_score"], {}, "'gate_score' reads gate weights, and the trace has none"),
        (["lru"], {"phase": "encode"}, "no token in phase 'encode'"),
    ],
)
def test_what_cannot_be_counted_is_said(trace, policies, options, words):
    with pytest.raises(InputError, match=words):
        miss_curves(replace(trace, gate_weights=None), policies, **options)
