"""What a check is: a law, a tolerance chosen beforehand, and a measured deviation."""

from __future__ import annotations

import importlib
import math
import pkgutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

import verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
MODULES = ("check", "__main__")
CONFIDENCE = 0.999
"""Of one interval; a right simulator fails one statistical check in a thousand, for a new seed."""


@dataclass(frozen=True)
class Measured:
    """``deviation`` from the law, in the check's unit; ``detail`` names the worst case.

    ``draw`` draws the comparison on the axes that it is given.
    """

    deviation: float
    detail: str = ""
    draw: Callable[[Axes], None] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Check:
    """A named law. It holds where the deviation is at most ``tolerance``; ``why`` says why that."""

    name: str
    law: str
    tolerance: float
    why: str
    unit: str
    measure: Callable[[], Measured]


CHECKS: dict[str, Check] = {}


def check(
    law: str, *, tolerance: float, why: str, unit: str
) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Register the decorated function under its own name."""

    def register(measure: Callable[[], Measured]) -> Callable[[], Measured]:
        name = measure.__name__
        CHECKS[name] = Check(name, law, tolerance, why, unit, measure)
        return measure

    return register


def load() -> None:
    """Import every module of this folder, so that its checks are in ``CHECKS``."""
    for module in pkgutil.iter_modules(verification.__path__):
        if module.name not in MODULES:
            importlib.import_module(f"verification.{module.name}")


def run(one: Check) -> bool:
    """Run ``one``, say by how much it passed or failed, and save its plot."""
    start = time.perf_counter()
    try:
        measured = one.measure()
    except Exception:  # noqa: BLE001 (a broken check fails; the others go on)
        print(f"ERROR  {one.name}\n{traceback.format_exc()}")
        return False
    wall_s = time.perf_counter() - start
    passed = measured.deviation <= one.tolerance and not math.isnan(measured.deviation)
    verdict = "passed" if passed else "FAILED"
    margin = abs(one.tolerance - measured.deviation)
    print(
        f"{verdict} {one.name}: {one.law}\n"
        f"       deviation {measured.deviation:.4g} of at most {one.tolerance:.4g} {one.unit}"
        f" ({verdict.lower()} by {margin:.4g}; {wall_s:.1f} s)\n"
        f"       tolerance: {one.why}" + (f"\n       {measured.detail}" if measured.detail else "")
    )
    if measured.draw is not None:
        save(one, measured.draw)
    return passed


def save(one: Check, draw: Callable[[Axes], None]) -> None:
    """Draw ``one``'s comparison into ``RESULTS``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    RESULTS.mkdir(exist_ok=True)
    sheet = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.add_subplot()
    draw(axes)
    axes.set_title(one.law, fontsize="medium", wrap=True)
    sheet.savefig(RESULTS / f"{one.name}.png", dpi=120)


def half_widths(samples: Sequence[float], theory: float) -> float:
    """How far ``theory`` is from the mean of independent ``samples``, in half-widths of the
    interval of ``CONFIDENCE`` (Student's t): at most 1 where the interval covers it.
    """
    values = np.asarray(samples, float)
    error = values.std(ddof=1) / math.sqrt(len(values))
    width = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * float(error)
    return abs(float(values.mean()) - theory) / width if width else math.inf
