"""Last corrections of fitted factors by what they generate.

A request that is generated runs on its own past, not on the recorded one, and small errors add
up. So requests like the recorded ones are drawn and popularity, recency and the requests' spread
are moved by the logarithm of what they miss (simulated moments); the pairs stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from moesim.trace.synthesis.fitting.factors import Factors
from moesim.trace.synthesis.fitting.moments import Ids, Ints, Moments, measure
from moesim.trace.synthesis.rows import Floats

STEPS = 14
_STEP, _LONG_STEPS = 0.5, 8
_ADDED = 5
"""Uses added to both sides of a ratio, so that rare ones hardly move it."""
_SPREAD = (0.01, 2.0)


def calibrate(
    factors: Factors,
    requests: Sequence[Ids],
    domain: Ints,
    wanted: Moments,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Correct ``factors`` by the difference to ``requests`` [tokens, layers, k], in place."""
    layers, experts = factors.used.shape
    for number in range(STEPS):
        tables = factors.tables()
        generator = np.random.default_rng([seed, number])
        drawn = [
            tables.draw(int(of), len(ids), ids.shape[2], generator)
            for of, ids in zip(domain, requests, strict=True)
        ]
        step = _STEP / max(1, number - _LONG_STEPS + 2)
        _correct(factors, wanted, measure(drawn, layers, experts), step)
        factors.limit()
        advance()


def _correct(factors: Factors, wanted: Moments, drawn: Moments, step: float) -> None:
    factors.popularity += step * _log_ratio(wanted.uses.sum(axis=0), drawn.uses.sum(axis=0))
    factors.recency += step * _log_ratio(wanted.reuses, drawn.reuses)
    factors.recency -= step * _log_ratio(wanted.exposures, drawn.exposures)
    missing = np.log(wanted.concentration() / drawn.concentration())
    factors.spread = np.clip(factors.spread * np.exp(step * missing), *_SPREAD)


def _log_ratio(wanted: Ints, drawn: Ints) -> Floats:
    return np.log((wanted + _ADDED) / (drawn + _ADDED))
