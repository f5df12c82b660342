"""What the closed loop is asked to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from moesim.calibrate.closed_loop.recording import Setting
from moesim.calibrate.closed_loop.sizes import Sizes
from moesim.config.errors import InputError, nearest

SOFTWARE = {"cpu": "synchronous", "cuda": "ideal"}
"""The devices, and the software profile of a replay of each."""
ROUNDS = 6
MINUTES = 2.0
"""Of measuring prices, over all rounds."""
MOST_STEPS, MOST_BATCH = 100_000, 4096


@dataclass(frozen=True)
class Request:
    """What is asked for; ``profile`` None: measure one; ``percents`` of the experts have slots."""

    out: Path
    model: str | None = None
    profile: str | None = None
    percents: tuple[int, ...] = (25, 50, 75, 100)
    batches: tuple[int, ...] = (1, 4)
    steps: int = 32
    device: str = "cpu"
    rounds: int = ROUNDS
    minutes: float = MINUTES


def settings_of(request: Request, sizes: Sizes) -> list[Setting]:
    """Every batch with every number of slots; InputError for numbers that cannot be."""
    if request.device not in SOFTWARE:
        raise InputError(f"--device '{request.device}'; {nearest(request.device, SOFTWARE)}")
    _check("--slots", request.percents, 1, 100)
    _check("--batch", request.batches, 1, MOST_BATCH)
    _check("--tokens", (request.steps,), 2, MOST_STEPS)
    slots = {ceil(sizes.experts * percent / 100): percent for percent in request.percents}
    return [
        Setting(percent, count, batch)
        for batch in request.batches
        for count, percent in slots.items()
    ]


def _check(option: str, numbers: Sequence[int], least: int, largest: int) -> None:
    for number in numbers:
        if not least <= number <= largest:
            raise InputError(f"{option} {number}: must be from {least} to {largest}")


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers in ``text``, separated by commas; InputError where that is something else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InputError(f"{option} '{text}': write whole numbers with commas between, as in 25,50")
    return tuple(dict.fromkeys(map(int, parts)))
