"""How much hypothesis draws: 25 examples of each test at every desk, 400 with
``--hypothesis-profile=thorough``. What one run does not draw, another one does. Where an example is
dear and other tests draw and compare such cases, too, a desk draws 10 (``few`` in
``tests/reference/strategies.py``); ``make verify`` draws 100 of those, and thousands that are
served. ``.ci/run`` draws 15, the same ones of a commit each time (``ci``): what judges a commit is
not the luck of a draw.
"""

import gc
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from moesim.experiment.running import price_ranges
from moesim.runtime.garbage import collect_seldom
from moesim.sweep import where_pays

collect_seldom()  # as moesim's own processes do: a worker's objects are many, and most of them stay
where_pays.PAYS_S = math.inf  # workers of the tests have all cores: a sweep starts others if asked
LONGEST_PLAYED_AGAIN = price_ranges.MOST_TOKENS
price_ranges.MOST_TOKENS = 0  # two more runs, of numbers that few tests look at
os.fsync = lambda fd: None  # no test cuts the power, and what is killed has written


def pytest_collection_finish() -> None:
    """No search goes through what has been imported and collected again."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Nor do the five searches with which pytest ends."""
    gc.freeze()


settings.register_profile(
    "desk", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("desk"), max_examples=15, derandomize=True)
settings.register_profile("many", settings.get_profile("desk"), max_examples=100)
settings.register_profile("thorough", settings.get_profile("desk"), max_examples=400)
settings.load_profile("desk")


@pytest.fixture
def played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the ranges of requests' times, which are played for unasked."""
    monkeypatch.setattr(price_ranges, "MOST_TOKENS", LONGEST_PLAYED_AGAIN)


@pytest.fixture
def rendered() -> None:
    """For tests of what pictures hold, where others of their file are ``unrendered``."""


@pytest.fixture
def unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but the pixels of their files are not made, which takes most of the time:
    for tests of numbers and words. Pages have their pictures.
    """
    from matplotlib.figure import Figure

    whole = Figure.savefig

    def savefig(self: Figure, target: Any, **how: Any) -> None:
        if not isinstance(target, Path):
            whole(self, target, **how)
        else:
            target.write_bytes(b"a picture")

    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(Figure, "savefig", savefig)
