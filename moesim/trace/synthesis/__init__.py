"""Synthetic routing traces: parameters, the generator, and parameters fitted to a recording."""

from __future__ import annotations

from moesim.trace.synthesis.generate import synthesize
from moesim.trace.synthesis.load import load_parameters
from moesim.trace.synthesis.parameters import SyntheticTrace

__all__ = ["SyntheticTrace", "load_parameters", "synthesize"]
