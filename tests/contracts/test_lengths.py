"""Every registered kind of lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.testing.lengths import are_one_or_more
from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths import registry
from moesim.workload.lengths.random import Random
from tests.contracts.kinds import own

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "lengths"
GIVEN: dict[str, dict[str, Any]] = {
    "trace": {},
    "arrivals": {},
    "fixed": {"input_len": "1k", "output_len": 3},
    "random": {"input_len": 40, "output_len": 1, "range_ratio": 0.5},
}
ARRIVED = Arrived(np.arange(20), np.arange(1, 21), np.arange(2, 22))


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files == set(own(registry))


@pytest.mark.parametrize("kind", own(registry))
def test_contract(kind):
    bound = np.full(20, 7), np.full(20, 1)
    are_one_or_more(registry.get(kind)(**GIVEN.get(kind, {})), ARRIVED, bound)


@pytest.mark.parametrize(("rule", "low", "high"), [("vllm", 20, 60), ("inferencex", 20, 40)])
def test_random_lengths_fill_their_range(rule, low, high):
    kind = Random(input_len=40, output_len=40, range_ratio=0.5, rule=rule)
    many = Arrived(np.zeros(20_000, np.int64))
    for lengths in kind.lengths(many, np.random.default_rng(0), None):
        assert (lengths.min(), lengths.max()) == (low, high)
        share = np.bincount(lengths)[low:] / len(lengths) * (high - low + 1)
        # each of the numbers as often, within five standard deviations of its count
        assert np.abs(share - 1).max() < 5 * ((high - low + 1) / len(lengths)) ** 0.5
