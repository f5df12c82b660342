"""Every registered kind of arrivals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.testing.arrivals import are_the_same_again, come_in_order
from moesim.workload.arrivals import registry
from moesim.workload.arrivals.base import Arrivals

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "arrivals"
DATA = Path(__file__).parents[1] / "data" / "arrivals"
GIVEN: dict[str, list[dict[str, Any]]] = {
    "at_once": [{}],
    "closed_loop": [
        {"max_concurrency": 3},
        {"max_concurrency": 2, "think_time": "5 ms"},
        {"max_concurrency": 4, "request_rate": "9 requests/s"},
    ],
    "poisson": [
        {"request_rate": "4 requests/s"},
        {"request_rate": "4 requests/s", "rescale": False},
        {"request_rate": "1 requests/s", "ramp_up": "linear", "ramp_up_to": "90 requests/min"},
        {"request_rate": "1 requests/s", "ramp_up": "exponential", "ramp_up_to": "8 requests/s"},
    ],
    "gamma": [{"request_rate": "4 requests/s", "burstiness": 0.25}],
}


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "files"}
    assert files == set(registry.components)
    assert files == set(GIVEN)


@pytest.mark.parametrize(
    ("kind", "given"), [(kind, one) for kind, several in GIVEN.items() for one in several]
)
@pytest.mark.parametrize("count", [1, 2, 50])
def test_contract(kind, given, count):
    arrivals = registry.get(kind)(**given)
    come_in_order(arrivals, count)
    are_the_same_again(arrivals, count)


def kind_of(kind: str, rate: str, **more: Any) -> Arrivals:
    given: dict[str, Any] = {"request_rate": rate, **more}
    return registry.get(kind)(**given)


def test_gaps_have_the_rate_and_the_spread_that_are_asked_for():
    """Mean 1 / rate and coefficient of variation 1 / sqrt(burstiness), within four standard
    errors of 100,000 gaps.
    """
    count = 100_000
    for burstiness in (0.25, 1.0, 4.0):
        kind = kind_of("gamma", "5 requests/s", burstiness=burstiness, rescale=False)
        gaps = np.diff(kind.arrive(count, np.random.default_rng(1), ()).arrival_ns) / 1e9
        spread = burstiness**-0.5
        assert abs(gaps.mean() * 5 - 1) < 4 * spread / count**0.5
        assert abs(gaps.std() / gaps.mean() - spread) < 4 * spread * (1 + spread) / count**0.5


def test_the_last_of_rescaled_gaps_is_when_so_many_are_due():
    kind = kind_of("poisson", "4 requests/s")
    assert kind.arrive(10, np.random.default_rng(0), ()).arrival_ns[-1] == 2_500_000_000


def test_other_rates_meet_the_same_luck():
    slow, fast = (
        kind_of("poisson", rate, rescale=False).arrive(9, np.random.default_rng(3), ())
        for rate in ("1 requests/s", "2 requests/s")
    )
    assert np.abs(slow.arrival_ns - 2 * fast.arrival_ns).max() <= 2


def test_a_closed_loop_without_think_time_needs_no_clock():
    kind: Any = registry.get("closed_loop")
    assert kind(max_concurrency=2).clockless
    assert not kind(max_concurrency=2, think_time="1 ms").clockless
    assert not kind(max_concurrency=2, request_rate="1 requests/s").clockless
