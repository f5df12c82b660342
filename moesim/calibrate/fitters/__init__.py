"""One file a kind of fit: which ops it is of, and how it is fitted."""

from __future__ import annotations

from moesim.calibrate.fitters.base import Fitter
from moesim.config.registry import Registry

registry: Registry[Fitter] = Registry("moesim.calibrate.fitters", Fitter, "moesim.fitters")


def fitter_of(op: str) -> Fitter | None:
    """The fitter of ``op``, or None where it has none."""
    found = (kind() for kind in registry.components.values() if op in kind.ops)
    return next(found, None)
