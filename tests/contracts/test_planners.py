"""Every registered planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.placement import registry
from moesim.placement.base import Plan, rows_between_gpus
from moesim.placement.contiguous import Contiguous
from moesim.placement.mapping import Placement
from moesim.placement.objective import score
from moesim.placement.plan import PlanFile, plan_maps
from moesim.placement.task import Task
from moesim.testing.planners import (
    bounds_what_it_reaches,
    is_deterministic,
    places_every_expert,
)
from tests.contracts.kinds import own

FOLDER = Path(__file__).parents[2] / "moesim" / "placement"
NOT_PLANNERS = {"__init__", "base", "mapping", "objective", "packing", "rebalance", "task"}
OBJECTIVE = ("optimal", "local_search", "greedy", "contiguous")
GAP = 1.1e-6
"""HiGHS stops within 1e-6 of its bound; a tenth for rounding."""


def planners(**given):
    """One of each kind that needs no parameter, with EPLB's replicas beside."""
    found = {k: cls(**given.get(k, {})) for k, cls in registry.components.items() if k != "plan"}
    eplb: Any = registry.get("eplb")
    return found | {"eplb with replicas": eplb(redundant=5, groups=2, nodes=2)}


@st.composite
def tasks(draw, most_experts=12, batches=8):
    """Uneven choices of two layers, some batches empty, and tokens beside them."""
    experts = draw(st.integers(2, most_experts))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    popular = random.zipf(1.5, (2, experts)).clip(max=20)
    passes = draw(st.integers(0, batches))
    counts = random.poisson(popular * random.choice([0.0, 0.3, 2.0], (passes, 2, 1)))
    ids = random.integers(0, experts, (passes, 2, min(2, experts))).astype(np.uint16)
    gpus = draw(st.integers(1, min(4, experts)))
    return Task(gpus, counts.astype(np.int64), ids, draw(st.integers(0, 9)))


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - NOT_PLANNERS
    assert files == set(own(registry))


@given(task=tasks())
def test_contract(task):
    for planner in planners(optimal={"variables": 12}).values():
        places_every_expert(planner, task)
        is_deterministic(planner, task)
        bounds_what_it_reaches(planner, task)


@pytest.mark.parametrize("gpus", [1, 3, 7, 8])
@pytest.mark.parametrize("experts", [8, 15, 60, 257])
def test_contract_on_sizes_that_do_not_divide(experts, gpus):
    counts = np.random.default_rng(experts).integers(0, 9, (3, 2, experts))
    for planner in planners(local_search={"rounds": 1}).values():
        if planner.kind != "optimal":
            places_every_expert(planner, Task(gpus, counts))


@given(task=tasks(most_experts=8))
def test_optimal_is_at_most_local_search_which_is_at_most_greedy_and_contiguous(task):
    """On the largest share of a GPU in any planning batch."""
    reached = {}
    for kind in OBJECTIVE:
        plan = registry.get(kind)().plan(task)
        placement = Placement.of(plan.physical_to_logical, task.gpus)
        of_layers = [
            score(task.shares(layer), _gpus(placement, layer), task.gpus)[0] for layer in (0, 1)
        ]
        reached[kind] = max(of_layers)
        if kind == "optimal" and plan.lower_bound is not None:
            assert reached[kind] == pytest.approx(plan.lower_bound, abs=GAP)  # solved
    assert reached["optimal"] <= reached["local_search"] + 1e-9
    assert reached["local_search"] <= min(reached["greedy"], reached["contiguous"]) + 1e-9


def _gpus(placement, layer):
    gpus = np.empty(placement.physical, np.int64)
    gpus[placement.logical[layer]] = placement.gpu_of_expert
    return gpus


@given(task=tasks(), seed=st.integers(0, 99))
def test_every_row_is_sent_to_a_gpu_that_holds_its_expert(task, seed):
    senders = task.gpus
    choices = np.random.default_rng(seed).integers(0, 9, (2, 2, senders, task.experts))
    for planner in planners(optimal={"variables": 1}).values():
        placement = Placement.of(planner.place(task), task.gpus)
        rows = placement.spread(choices)
        matrix = rows_between_gpus(rows, placement.gpu_of_expert)
        assert (matrix.sum(axis=3) == choices.sum(axis=3)).all()
        for expert in range(task.experts):
            held = np.where(placement.logical[:, None, :] == expert, rows, 0).sum(axis=3)
            assert (held == choices[..., expert]).all()


def test_a_plan_comes_back_from_its_file(tmp_path):
    task = Task(2, np.zeros((0, 2, 4), np.int64), folders=(tmp_path,))
    plan = np.array([[3, 1, 0, 2, 1], [0, 1, 2, 3, 3]])
    maps = plan_maps(plan, 2)
    (tmp_path / "plan.json").write_text(json.dumps(maps))
    planner = PlanFile(file="plan.json")
    places_every_expert(planner, task)
    assert planner.place(task).tolist() == plan.tolist()
    assert maps["logical_to_physical_map"][0] == [[2, -1], [1, 4], [3, -1], [0, -1]]
    assert maps["expert_count"] == [[1, 2, 1, 1], [1, 1, 1, 2]]


class Sure(Contiguous):
    """Is sure that no GPU does less than twice of all."""

    def plan(self, task):
        return Plan(self.place(task), 2.0)


class Shy(Contiguous):
    """Says nothing of what it reaches."""

    def plan(self, task):
        return Plan(self.place(task), None)


class Stacks(Contiguous):
    """Places the first expert alone."""

    def place(self, task):
        return np.zeros((task.layers, task.experts), np.int64)


@pytest.mark.parametrize(
    ("contract", "planner", "said"),
    [
        (bounds_what_it_reaches, Sure, "Sure: 0.75 is below 2.0"),
        (bounds_what_it_reaches, Shy, "Shy: no bound, but batches to plan from"),
        (places_every_expert, Stacks, "Stacks does not place each of 2 experts"),
    ],
)
def test_one_that_breaks_the_rules_is_named(contract, planner, said):
    with pytest.raises(AssertionError, match=said):
        contract(planner(), Task(2, np.array([[[3, 1]]])))
