"""What is missing is computed by the CPU now, and copied for later: by hand on gpt-oss-20b."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.memory.forms import LOADED, Form
from moesim.memory.misses.background import BEHIND
from moesim.memory.misses.base import MissHandling

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": {
        "base": "rtx-4060-8gb",
        "host": {"base": "ddr4-3200-2ch-64gb", "expert_fraction": "80 %"},
    },
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
}


BACKGROUND = {"capacity": "8 slots/layer", "miss": {"kind": "background"}}


def case_of(passes: int = 40, **experts: Any) -> Case:
    room = SOURCE | {"experts": BACKGROUND | experts}
    case = build(moesim.load_experiment(room).experiment, passes).case
    return replace(case, links=None)  # as if copies and the CPU did not share the DRAM


def waited(outcome: Outcome) -> int:
    return int(outcome.charges[..., outcome.categories.index("waiting_for_weights")].sum())


@pytest.mark.parametrize("policy", ["lru", "arc"])
def test_both_engines_say_the_same(policy: str) -> None:
    case = case_of(policy={"kind": policy})
    played, by_events = run_replay(case), run_des(case)
    assert np.array_equal(played.ends, by_events.ends)
    assert np.array_equal(played.charges, by_events.charges)
    assert np.array_equal(played.counts.missed, by_events.counts.missed)


def test_slots_fill_as_under_loads() -> None:
    """Four experts a token in eight slots: a victim that nobody needs is always there, so that hits
    are those of loads; but every miss is the CPU's, and the first of it is copied.
    """
    behind, loads = run_replay(case_of()), run_replay(case_of(miss={"kind": "load"}))
    assert np.array_equal(behind.counts.hits, loads.counts.hits)
    assert np.array_equal(behind.counts.hosted, behind.counts.misses)
    assert np.array_equal(behind.counts.missed_as(BEHIND), behind.counts.misses)
    assert np.array_equal(behind.counts.copies, loads.counts.copies)


def test_one_copy_a_layer_and_pass_makes_fewer_hits() -> None:
    one, all_ = (
        run_replay(case_of(miss={"kind": "background", **uploads}))
        for uploads in ({"uploads": 1}, {})
    )
    assert one.counts.copies.max() == 1 < all_.counts.copies.max()
    assert one.counts.hits.sum() < all_.counts.hits.sum()
    assert one.counts.hosted.sum() == one.counts.misses.sum() > one.counts.copies.sum()


def test_fewer_slots_than_experts_of_a_token_copy_what_fits() -> None:
    """Three slots, four experts: what a step needs is not evicted for what it needs, too."""
    outcome = run_replay(case_of(capacity="3 slots/layer"))
    first = outcome.counts.missed_as(BEHIND)[0]
    assert (first == 3).all()
    assert (outcome.counts.hosted[0] == 4).all()


def test_a_later_pass_of_a_layer_waits_for_its_copies() -> None:
    """The second pass hits what the first has copied; 96 copies of 13 MB take longer than a pass.
    One a layer and pass, 24, do not.
    """
    all_ = run_replay(case_of(2))
    one = run_replay(case_of(2, miss={"kind": "background", "uploads": 1}))
    assert waited(one) == 0 < waited(all_)
    spans = run_des(case_of(2), records="expert").spans
    last = {s.layer: s.end_ns for s in spans if s.engine == "copy_in" and s.step == 0}
    kernels = [s for s in spans if s.name == "experts" and s.step == 1]
    assert kernels
    assert all(last[kernel.layer] <= kernel.start_ns for kernel in kernels)


def test_copies_and_the_cpu_share_the_memory() -> None:
    """Where both read the DRAM of one node at a time, both take longer."""
    alone = case_of(12)
    built = build(moesim.load_experiment(SOURCE | {"experts": BACKGROUND}).experiment, 12)
    assert built.case.links is not None
    assert run_des(built.case).duration_ns > run_des(alone).duration_ns


def test_a_summary_counts_them_as_the_cpus() -> None:
    summary = moesim.run(
        {**SOURCE, "experts": {"capacity": "8 slots/layer", "miss": {"kind": "background"}}}
    )
    numbers = summary.summary
    assert numbers["misses_on_cpu"] == numbers["misses"] == numbers["misses_in_background"] > 0
    expert = case_of(1).model.moe_layers[0].moe
    assert expert is not None
    assert numbers["bytes_h2d"] == numbers["misses"] * expert.expert.bytes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"software": "llama.cpp"}, "copies beside kernels, and the software 'llama.cpp' does not"),
        (
            {"experts": {"prefetch": {"kind": "next_layer"}}},
            "does not go together with prefetch yet",
        ),
        ({"experts": {"on_cpu": {"layers": 2}}}, "does not go together with on_cpu"),
    ],
)
def test_what_it_does_not_go_together_with(given: dict[str, Any], said: str) -> None:
    experts = {"capacity": "8 slots/layer", "miss": {"kind": "background"}} | given.get(
        "experts", {}
    )
    with pytest.raises(InputError, match=said):
        build(moesim.load_experiment(SOURCE | given | {"experts": experts}).experiment, 5)


def test_a_way_that_copies_behind_needs_a_form_without_a_copy() -> None:
    with pytest.raises(InputError, match="and ON_HOST too where copies run in the background"):

        class Behind(MissHandling):
            forms = (LOADED, BEHIND)

    with pytest.raises(ValueError, match="of what the host computes a slot may take a copy"):
        Form("both", "nowhere", "slot")


def test_more_copies_than_can_be_counted_are_refused() -> None:
    experts = {"capacity": "8 slots/layer", "miss": {"kind": "background", "uploads": 1 << 64}}
    with pytest.raises(InputError, match=r"experts\.miss\.uploads"):
        moesim.load_experiment(SOURCE | {"experts": experts})
