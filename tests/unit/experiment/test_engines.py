"""Which engine runs, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.running.engines import engine_of, outside_replay
from moesim.experiment.running.run import simulate

SOURCE = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "experts": {"capacity": "8 slots/layer"},
}
SHARED = {"hardware": "dgx-h100", "parallelism": {"expert": 2}}
PREFETCH = {"experts": {"capacity": "8 slots/layer", "prefetch": {"kind": "history"}}}
STORED = {
    "hardware": {"base": "dgx-h100", "storage": {"base": "nvme-pcie4"}},
    "experts": {"capacity": "8 slots/layer", "host": {"capacity": "4 GiB"}},
}
STREAMED = {"workload": {"prefill": {"experts": "stream"}}}
OUTSIDE: dict[str, tuple[dict[str, Any], bool]] = {
    "prefetches over a shared link": (SHARED | PREFETCH, False),
    "whole layers from storage over a shared link": (SHARED | STORED | STREAMED, False),
    "records: expert": ({"records": "expert"}, False),
    "--check": ({}, True),
}


def experiment_of(**choices):
    return moesim.load_experiment({**SOURCE, **choices}).experiment


def chosen(*, check=False, **choices):
    experiment = experiment_of(**choices)
    return engine_of(experiment, build(experiment, 3).case, check=check)


def test_auto_takes_replay_where_it_is_exact():
    assert chosen() == ("replay", "the fastest engine, and exact here")


@pytest.mark.parametrize("feature", OUTSIDE)
def test_auto_takes_des_and_names_what_needs_it(feature):
    choices, check = OUTSIDE[feature]
    assert chosen(check=check, **choices) == ("des", f"{feature}: only des plays it")


@pytest.mark.parametrize("feature", OUTSIDE)
def test_replay_by_name_is_one_line_where_it_does_not_play(feature):
    choices, check = OUTSIDE[feature]
    message = f"^engine: 'replay' does not play {feature}; write auto or des$"
    with pytest.raises(InputError, match=message):
        chosen(check=check, engine="replay", **choices)


@pytest.mark.parametrize("choices", [SHARED, SHARED | STREAMED, SHARED | STORED])
def test_replay_plays_shared_links(choices):
    assert build(experiment_of(**choices), 3).case.links is not None
    assert chosen(**choices) == ("replay", "the fastest engine, and exact here")


def test_replay_plays_prefetches():
    assert chosen(**PREFETCH) == ("replay", "the fastest engine, and exact here")


def test_des_by_name():
    assert chosen(engine="des") == ("des", "named by the experiment")


def test_nothing_is_outside_where_nothing_is_offloaded():
    """Prefetchers and links have nothing to do there."""
    experiment = experiment_of(experts={"capacity": "all", "prefetch": {"kind": "history"}})
    case = build(experiment, 3).case
    assert not list(outside_replay(case, "layer", check=False))
    assert list(outside_replay(replace(case, prefetch=case.prefetch), "expert", check=True)) == [
        "records: expert",
        "--check",
    ]


@pytest.mark.parametrize("choices", [{}, PREFETCH])
@pytest.mark.parametrize("records", ["summary", "step", "layer"])
def test_both_engines_write_the_same_result(records, choices):
    ignored = {"engine", "engine_reason", "engine_wall_s"}
    both = [
        simulate(experiment_of(records=records, engine=engine, **choices), limit_steps=40)
        for engine in ("des", "replay")
    ]
    one, other = ({k: v for k, v in r.summary.items() if k not in ignored} for r in both)
    assert one == other
    for table in ("steps", "layers", "requests", "memory"):
        assert getattr(both[0], table).equals(getattr(both[1], table)), table
