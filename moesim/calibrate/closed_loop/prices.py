"""A profile of the machine that decodes, measured between the rounds of the decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moesim.calibrate.collect.point import THIRD, Point

OPS = ("moe", "gemm", "attention_decode", "gate", "permute", "launch", "copy_h2d", "copy_d2h")
"""What a decode with expert slots is made of."""
TABLE, BASE, PROFILE = "measurements.parquet", "measurements.yaml", "profile.yaml"


LARGE_ROWS = 1024
"""Rows of the product that shows the peak rate, measured warm."""


class OwnPrices:
    """Measures the ops of ``model`` in slices, so that prices and decode see the same machine."""

    def __init__(self, model: str, device: str, dtype: str, folder: Path) -> None:
        from moesim.calibrate.collect.command import prepare

        self.folder, self.notes = folder, list[str]()
        (folder / TABLE).unlink(missing_ok=True)
        self.session = prepare(folder / TABLE, [model], device, OPS, [dtype], 1, resume=False)
        self.session.series = [one for one in self.session.series if _met(one.point)]

    def measure(self, minutes: float, progress: Callable[[str], None]) -> None:
        """Measure for ``minutes`` more: first what was never measured, then all again."""
        from moesim.calibrate.collect.measure import Measurement

        session = self.session
        Measurement(
            session.device,
            session.series,
            minutes * 60,
            session.clock,
            lambda series: progress(str(series.point.columns["op"])),
        ).run()
        session.save()

    def profile(self) -> Path:
        """Fit what was measured; ``notes`` then say what was left out."""
        from moesim.calibrate.collect.command import finish
        from moesim.calibrate.fit import fit_table
        from moesim.calibrate.profile_file import profile_text, write_profile
        from moesim.calibrate.tables.intake import base_of, intake

        table, path = self.folder / TABLE, self.folder / PROFILE
        list(finish(self.session))
        base = self.folder / BASE
        profile, name = base_of([table], str(base) if base.is_file() else None)
        taken = intake([table], profile)
        fits = fit_table(taken.table, profile)
        self.notes += [*self.session.notes(), *taken.told]
        self.notes += [f"not fitted: {line}" for line in fits.missing]
        write_profile(path, profile_text(name, f"{profile.title}, fitted", fits))
        return path


def _met(point: Point) -> bool:
    """Whether a decode meets the point, or a fit needs it: nothing in the caches, experts one by
    one, the model's products.
    """
    columns = point.columns
    if columns["op"] == "gemm" and columns["m"] < LARGE_ROWS and point.priority == THIRD:
        return False
    if columns.get("l2_warm") and columns.get("m", 0) < LARGE_ROWS:
        return str(columns["op"]) == "attention_decode"
    return columns.get("kernel_source") != "torch-grouped"
