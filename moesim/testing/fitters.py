"""What every fitter keeps."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from moesim.calibrate.fit import OTHERS, Fits
from moesim.calibrate.profile_file import profile_text, write_profile
from moesim.hardware import load_hardware
from moesim.hardware.fitting.fitter import About, Fitter
from moesim.hardware.prices.calibrated import Calibrated, Fit, OtherFit
from moesim.hardware.profile import HardwareProfile

SOURCE = "made-for-a-test"


def fits_or_says_why(fitter: Fitter, table: pd.DataFrame, profile: HardwareProfile) -> Fit | str:
    """A fit of its own kind, or a line that says what is missing; the same for the same rows, which
    stay as they are. Returns it.

    ``table``: valid rows (``moesim.hardware.measurements.validate.valid``) of one of its ``ops``,
    one kernel.
    """
    name, before = type(fitter).__name__, table.copy(deep=True)
    assert set(table["op"]) <= set(fitter.ops), f"{name}: the rows are of other ops"
    about = About(
        dtype=_said(table, "dtype"),
        kernel=_said(table, "kernel_source"),
        device=_said(table, "device"),
        framework=_said(table, "framework"),
        version=_said(table, "version"),
        source=SOURCE,
    )
    fit = fitter.fit(table, profile, about)
    pd.testing.assert_frame_equal(table, before, obj=f"{name}: the table that it was given")
    assert fitter.fit(table, profile, about) == fit, f"{name} fits differently each time"
    if isinstance(fit, str):
        assert fit.strip(), f"{name} does not say why there is no fit"
        return fit
    if fitter.kind not in Calibrated.model_fields:
        assert isinstance(fit, OtherFit), f"{name}: a kind of its own is an OtherFit"
        assert fit.kind == fitter.kind, f"{name}: the fit is of kind '{fit.kind}'"
    assert fit.source == SOURCE, f"{name} leaves out what About says"
    return fit


def survives_its_file(fit: Fit, fitter: Fitter, profile: HardwareProfile) -> None:
    """Written into a profile upon the shipped ``profile`` and read again, ``fit`` is the same."""
    field = fitter.kind if fitter.kind in Calibrated.model_fields else OTHERS
    part = Calibrated.model_validate({field: (fit,)})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.yaml"
        fits = Fits(part, {fit.source: "made for a test"})
        write_profile(path, profile_text(profile.name, "made", fits))
        again = load_hardware(str(path)).calibrated
    assert again == part, f"{type(fitter).__name__}: the fit is another one after its file"


def _said(table: pd.DataFrame, column: str) -> str | None:
    """What the rows have in common there."""
    values = set(table[column].dropna()) if column in table.columns else set[str]()
    return str(values.pop()) if len(values) == 1 else None
