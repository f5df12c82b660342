"""Evidence that is no run of an experiment: kernels left out of fits, the study, a closed loop."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moesim.hardware import hardware_names, load_hardware
from moesim.hardware.prices.calibrated import Calibrated
from moesim.reproduce.published import BLIND, PUBLISHED

KERNELS, STUDY, LOOP = "kernels left out of fits", "study, blind", "closed loop on a CPU"
LOOP_FILE = Path(__file__).parents[1] / "closed_loop" / "one_run.csv"
"""A run of ``moesim calibrate validate``, kept: measured and simulated on one machine."""


def kernels() -> pd.DataFrame:
    """A row for each shipped fit that says what it was off by on shapes that it had not seen:
    ``card``, ``family``, ``fit``, ``points``, ``median_percent``, ``p90_percent``.
    """
    rows = []
    for card in hardware_names():
        calibrated = load_hardware(card).calibrated or Calibrated()
        for family in Calibrated.model_fields:
            for fit in getattr(calibrated, family):
                if (found := fit.unseen) is not None:
                    errors = (found.points, found.median_percent, found.p90_percent)
                    rows.append((card, family, fit.label, *errors))
    columns = ["card", "family", "fit", "points", "median_percent", "p90_percent"]
    return pd.DataFrame(rows, columns=columns)


def study() -> pd.DataFrame:
    """The numbers of the reference study that were read after the simulation had been judged, and
    what it had said: a row each, as an overview reads it.
    """
    numbers = [(name, PUBLISHED[name].value, blind) for name, blind in BLIND.items()]
    table = pd.DataFrame(numbers, columns=["run", "measured", "predicted"])
    return _compared(table.assign(family=table["run"]))


def closed_loop() -> pd.DataFrame:
    """The kept decodes with expert slots on a CPU, a row each, as an overview reads it."""
    table = pd.read_csv(LOOP_FILE)
    run = table["batch"].astype(str) + " x " + table["slots"].astype(str)
    speeds = {"measured": 1e3 / table["measured_ms"], "predicted": 1e3 / table["simulated_ms"]}
    table = table.assign(run=run, family="torch", **speeds)
    return _compared(table.assign(error_percent=100 * (table.measured / table.predicted - 1)))


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """With an overview's columns; the study's numbers are ratios and amounts, not speeds."""
    error = 100 * (table["predicted"] / table["measured"] - 1)
    names = {"measured": "measured_tokens_per_s", "predicted": "predicted_tokens_per_s"}
    nothing = dict.fromkeys(("low_tokens_per_s", "high_tokens_per_s"), float("nan"))
    given = table.get("error_percent", error)
    return table.rename(columns=names).assign(of="", error_percent=given, **nothing)
