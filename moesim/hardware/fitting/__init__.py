"""How numbers are fitted to measurements; what is fitted is an operation's (``operations``).

A run prices with numbers that stand in a profile, and loads nothing of this folder.
"""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.hardware.fitting.fitter import Fitter
from moesim.hardware.prices.calibrated import Calibrated

registry: Registry[Fitter] = Registry(
    "moesim.hardware.operations", Fitter, "moesim.fitters", r"(\w+)\.fit|fit_(\w+)"
)


def fitter_of(op: str) -> Fitter | None:
    """The fitter whose fits price ``op`` in a run, or None where it has none."""
    found = (
        fitter()
        for kind, fitter in registry.components.items()
        if op in fitter.ops and kind in Calibrated.model_fields
    )
    return next(found, None)
