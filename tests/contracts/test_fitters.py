"""Every registered fitter, on times that the datasheet gives to the rows of a plan."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.collect.choice import points_of
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.shapes import shapes_for
from moesim.calibrate.fit import fit_table
from moesim.calibrate.prices.price import price_table
from moesim.hardware import load_hardware
from moesim.hardware.fitting import fitter_of, registry
from moesim.hardware.fitting.fitter import About, Fitter
from moesim.hardware.measurements.validate import LINE, valid
from moesim.hardware.prices.calibrated import Calibrated, Estimate, Fit, OtherFit
from moesim.hardware.profile import HardwareProfile
from moesim.testing.fitters import fits_or_says_why, survives_its_file

PLAN = Plan("cuda", shapes_for(["qwen3-30b-a3b"], "cuda"), ("bf16",), 8, 4, 2**25, 2**36)
MOST = 36
OPS = [(kind, op) for kind, fitter in sorted(registry.components.items()) for op in fitter.ops]


@pytest.fixture(scope="module")
def card() -> HardwareProfile:
    return load_hardware("h100-sxm").model_copy(update={"calibrated": None})


@pytest.fixture(scope="module")
def table(card: HardwareProfile) -> pd.DataFrame:
    rows = pd.DataFrame([dict(point.columns) for point in points_of(PLAN)])
    rows[LINE] = np.arange(1, len(rows) + 1)
    rows = valid(rows, timed=False)[0]
    return rows.assign(latency_ns=price_table(card, rows).price_ns.astype(float))


def of_one_kernel(table: pd.DataFrame, op: str, fitter: type[Fitter]) -> pd.DataFrame:
    """Up to MOST rows of ``op`` that differ in nothing which has fits of its own."""
    rows = table[table["op"] == op]
    for name in (*fitter.apart, "kernel_source"):
        if name in rows.columns and rows[name].notna().any():
            rows = rows[rows[name] == rows[name].mode()[0]]
    return rows.iloc[:: -(-len(rows) // MOST)].reset_index(drop=True)


@pytest.mark.parametrize(("kind", "op"), OPS)
def test_contract(kind: str, op: str, table: pd.DataFrame, card: HardwareProfile) -> None:
    fitter = registry.get(kind)
    fit = fits_or_says_why(fitter(), of_one_kernel(table, op, fitter), card)
    if isinstance(fit, Fit):
        survives_its_file(fit, fitter(), card)


class Typical(Fitter):
    """A package's own fit: the median, and another number that is tiny."""

    kind = "a_typical"
    ops = ("launch", "gate")

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> Fit | str:
        median, tiny = float(table["latency_ns"].median()), 1e-9
        return OtherFit(
            **about._asdict(),
            kind=self.kind,
            op=str(table["op"].iloc[0]),
            points=len(table),
            shapes=1,
            numbers={
                "median_ns": Estimate[float](value=median, interval=(median, 1e300)),
                "tiny": Estimate[float](value=tiny, interval=(0.0, tiny)),
            },
        )


class Mistaken(Typical):
    """Calls its fits by another name."""

    kind = "mistaken"

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> Fit | str:
        found = super().fit(table, profile, about)
        assert isinstance(found, OtherFit)
        return found.model_copy(update={"kind": "other"})


@pytest.fixture
def typical(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**registry.components, "a_typical": Typical}
    monkeypatch.setitem(vars(registry), "components", dict(sorted(known.items())))


@pytest.mark.usefixtures("typical")
def test_a_packages_own_fits_are_beside_the_others(
    table: pd.DataFrame, card: HardwareProfile
) -> None:
    rows = table[table["op"].isin(["launch", "gate"])].reset_index(drop=True)
    fits = fit_table(rows, card)
    assert {fit.op for fit in fits.calibrated.of("a_typical")} == {"launch", "gate"}
    assert {fit.op for fit in fits.calibrated.kernels} == {"launch", "gate"}
    assert fits.calibrated.of("another") == ()
    assert any(line.startswith("gate, ") for line in fits.lines())
    fit = fits.calibrated.of("a_typical")[0].model_copy(update={"source": "own"})
    survives_its_file(fit, Typical(), card)


@pytest.mark.usefixtures("typical")
def test_a_packages_own_fit_prices_nothing_by_itself() -> None:
    fitter = fitter_of("launch")
    assert fitter is not None
    assert fitter.kind == "kernels"
    assert "others" in Calibrated.model_fields


def test_one_that_breaks_the_rules_is_named(table: pd.DataFrame, card: HardwareProfile) -> None:
    rows = of_one_kernel(table, "launch", Typical)
    with pytest.raises(AssertionError, match="Mistaken: the fit is of kind 'other'"):
        fits_or_says_why(Mistaken(), rows, card)
