"""Parameters of a synthetic trace that resembles a recorded one."""

from __future__ import annotations

from moesim.trace.synthesis.fitting.fit import fit

__all__ = ["fit"]
