"""Factors that make the recorded choices likely, given their recorded past.

The model is log-linear, so every factor's gradient is what was counted less what is expected.
Each step moves all factors by a diagonal Newton step, shortened because several act on one choice.
All but popularity and recency have a normal prior, whose variances are estimated along (empirical
Bayes), so that few tokens give small effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moesim.trace.synthesis.fitting.ages import AGES, BIN_OF_AGE, STARTS
from moesim.trace.synthesis.fitting.factors import Factors
from moesim.trace.synthesis.fitting.likelihood import add_expected
from moesim.trace.synthesis.fitting.moments import Ids, Ints, Moments
from moesim.trace.synthesis.rows import Floats
from moesim.trace.synthesis.tables import stages

STEPS = 36
_STEP = 0.16
_MOST_MOVE = 2.0
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Expected:
    """Expected counts, as ``Moments`` has those of what was chosen."""

    uses: Floats
    staged: Floats
    reuses: Floats
    between: Floats
    within: Floats


def maximise(
    factors: Factors,
    requests: Sequence[Ids],
    domain: Ints,
    wanted: Moments,
    advance: Callable[[], None],
) -> None:
    """Fit ``factors`` to ``requests`` [tokens, layers, k], in place."""
    variances = np.full((4, len(factors.spread)), 0.1)
    for _ in range(STEPS):
        expected = _expected(factors, requests, domain)
        variances = _move(factors, domain, wanted, expected, variances)
        factors.limit()
        advance()


def _expected(factors: Factors, requests: Sequence[Ids], domain: Ints) -> Expected:
    layers = len(factors.spread)
    experts = factors.used.shape[1]
    expected = Expected(
        np.zeros((len(requests), layers, experts)),
        np.zeros((len(STARTS), layers, experts)),
        np.zeros((layers, len(AGES) + 1)),
        np.zeros((layers, experts, experts)),
        np.zeros((layers, experts, experts)),
    )
    tables = np.exp(factors.recency), BIN_OF_AGE, np.exp(factors.between), np.exp(factors.within)
    position, starts = np.exp(factors.position), np.array(STARTS)
    sums = expected.staged, expected.reuses, expected.between, expected.within
    for number, ids in enumerate(requests):
        base = position * factors.base(int(domain[number]), number)[None]
        stage = stages(starts, len(ids))
        add_expected(ids, base, stage, *tables, expected.uses[number], *sums)
    return expected


def _move(
    factors: Factors, domain: Ints, wanted: Moments, expected: Expected, variances: Floats
) -> Floats:
    """One step of all factors; the new variances [4, layers] of the other priors."""
    total, hoped = wanted.uses.sum(axis=0), expected.uses.sum(axis=0)
    factors.popularity += _STEP * np.log((total + 1) / (hoped + 1))
    factors.recency += _STEP * np.log((wanted.reuses + 1) / (expected.reuses + 1))
    by_place, of_domain, of_between, of_within = variances
    by_place = _random_effect(factors.position, wanted.staged, expected.staged, by_place)
    if len(factors.domain) > 1:
        counted = _by_domain(wanted.uses, domain, len(factors.domain))
        by_domain = _by_domain(expected.uses, domain, len(factors.domain))
        of_domain = _random_effect(factors.domain, counted, by_domain, of_domain)
    squared = _random_effect(factors.request, wanted.uses, expected.uses, factors.spread**2)
    factors.spread = np.sqrt(squared)
    of_between = _pairs(factors.between, wanted.between, expected.between, of_between)
    of_within = _pairs(factors.within, wanted.within, expected.within, of_within)
    return np.stack((by_place, of_domain, of_between, of_within))


def _pairs(values: Floats, counted: Ints, expected: Floats, variance: Floats) -> Floats:
    """As ``_random_effect``, of [layers, experts, experts]."""
    given = np.swapaxes(values, 0, 1), np.swapaxes(counted, 0, 1)
    return _random_effect(*given, np.swapaxes(expected, 0, 1), variance)


def _random_effect(
    values: Floats, counted: Floats | Ints, expected: Floats, variance: Floats
) -> Floats:
    """Move ``values`` [groups, layers, experts], in place; their new variance [layers]."""
    precision = 1 / variance[None, :, None]
    move = (counted - expected - precision * values) / (expected + precision)
    values += _STEP * np.clip(move, -_MOST_MOVE, _MOST_MOVE)
    unknown = 1 / (expected + precision)
    return np.asarray(np.maximum((values**2 + unknown).mean(axis=(0, 2)), _LEAST_VARIANCE))


def _by_domain(uses: Floats | Ints, domain: Ints, domains: int) -> Floats:
    """[domains, layers, experts] sums over the requests of each domain."""
    summed = np.zeros((domains, *uses.shape[1:]))
    np.add.at(summed, domain, uses)
    return summed
