"""One file a kind of fit: which ops it is of, and how it is fitted."""

from __future__ import annotations

from moesim.calibrate.fitters.base import Fitter
from moesim.config.registry import Registry
from moesim.hardware.calibrated import Calibrated

registry: Registry[Fitter] = Registry("moesim.calibrate.fitters", Fitter, "moesim.fitters")


def fitter_of(op: str) -> Fitter | None:
    """The fitter whose fits price ``op`` in a run, or None where it has none."""
    found = (
        fitter()
        for kind, fitter in registry.components.items()
        if op in fitter.ops and kind in Calibrated.model_fields
    )
    return next(found, None)
