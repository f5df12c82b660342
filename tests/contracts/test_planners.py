"""Every registered planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.placement.base import bytes_between_gpus
from moesim.testing.planners import is_deterministic, places_every_expert_once

FOLDER = Path(__file__).parents[2] / "moesim" / "placement"


@pytest.fixture(scope="module")
def planners():
    from moesim.placement import registry

    return {kind: planner() for kind, planner in registry.components.items()}


def test_every_file_of_the_folder_is_registered(planners):
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files <= set(planners)


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("experts", [8, 9, 15, 32, 60, 128, 257])
def test_contract(planners, experts, gpus):
    for planner in planners.values():
        places_every_expert_once(planner, experts, gpus)
        is_deterministic(planner, experts, gpus)


def test_by_hand(planners):
    assert planners["contiguous"].place(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert planners["round_robin"].place(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]


@given(experts=st.integers(4, 12), gpus=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_row_is_sent_to_its_experts_gpu(planners, experts, gpus, seed):
    sent = np.random.default_rng(seed).integers(0, 9, (2, gpus, experts))
    for planner in planners.values():
        placed = planner.place(experts, gpus)
        matrix = bytes_between_gpus(sent, placed, 6)
        assert matrix.sum() == 6 * sent.sum()
        for one, expected in zip(matrix, sent, strict=True):
            for receiver in range(gpus):
                of_receiver = [6 * expected[:, e] for e in range(experts) if placed[e] == receiver]
                assert one[:, receiver].tolist() == sum(of_receiver).tolist()
