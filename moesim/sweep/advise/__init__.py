"""Advice: which way of handling misses, policy and capacity is best, and what would help most."""

from moesim.sweep.advise.advice import Advice
from moesim.sweep.advise.run import advise, begin_anew

__all__ = ["Advice", "advise", "begin_anew"]
