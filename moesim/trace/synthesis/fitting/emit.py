"""Fitted factors and what was counted as parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace
from moesim.trace.synthesis.coupling import ExplicitPairs
from moesim.trace.synthesis.domains import ExplicitEffect
from moesim.trace.synthesis.fitting.ages import AGES, STARTS
from moesim.trace.synthesis.fitting.factors import Factors
from moesim.trace.synthesis.lengths import Lengths, Quantiles
from moesim.trace.synthesis.parameters import GateWeights, Part, PhaseName, Requests
from moesim.trace.synthesis.popularity import Explicit
from moesim.trace.synthesis.position import PositionEffect
from moesim.trace.synthesis.rows import Floats, fixed, significant
from moesim.trace.synthesis.stickiness import ByAge, Stickiness

_QUANTILES = 33
_LOG_DECIMALS = 3


def part_of(factors: Factors, phase: PhaseName, first_layer: int, names: Sequence[str]) -> Part:
    """A part with these factors, rounded."""
    weights = np.where(factors.used, np.exp(factors.popularity), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    effects = {name: _rows(of) for name, of in zip(names, factors.domain, strict=True)}
    between = tuple(_rows(of) for of in factors.between[1:])
    recency = ByAge(ages=AGES, log_factors=_rows(factors.recency[:, :-1]))
    return Part(
        phases=(phase,),
        first_layer=first_layer,
        layers=len(weights),
        popularity=Explicit(weights_by_layer=tuple(significant(row, 4) for row in weights)),
        domain_effect=ExplicitEffect(log_factors=effects) if len(names) > 1 else None,
        request_spread=tuple(round(float(value), 4) for value in factors.spread),
        position_effect=PositionEffect(
            from_tokens=STARTS, log_factors=tuple(_rows(of) for of in factors.position)
        ),
        stickiness=Stickiness(recency=recency),
        between_layers=ExplicitPairs(log_factors=between) if between else None,
        within_token=ExplicitPairs(log_factors=tuple(_rows(of) for of in factors.within)),
    )


def _rows(values: Floats) -> tuple[str, ...]:
    return tuple(fixed(row, _LOG_DECIMALS) for row in values)


def requests_of(trace: RoutingTrace) -> Requests:
    """The number of requests and the quantiles of their lengths."""
    counts = {phase: _tokens(trace, phase) for phase in Phase}
    recorded = bool(counts[Phase.PREFILL].any())
    starts = trace.phase == Phase.DECODE
    first = np.full(trace.requests, -1, dtype=np.int64)
    row = _request_rows(trace)
    first[row[starts][::-1]] = trace.position[starts][::-1]
    prompts = counts[Phase.PREFILL] if recorded else first[first >= 0]
    return Requests(
        count=trace.requests,
        encode_tokens=_quantiles(counts[Phase.ENCODE]),
        prefill_tokens=_quantiles(prompts),
        prefill_recorded=recorded,
        decode_tokens=_quantiles(counts[Phase.DECODE]),
    )


def _request_rows(trace: RoutingTrace) -> NDArray[np.int64]:
    return np.repeat(np.arange(trace.requests), np.diff(trace.request_offsets()))


def _tokens(trace: RoutingTrace, phase: Phase) -> NDArray[np.int64]:
    chosen = _request_rows(trace)[trace.phase == phase]
    return np.bincount(chosen, minlength=trace.requests)


def _quantiles(tokens: NDArray[np.int64]) -> Lengths | None:
    if not tokens.any():
        return None
    values = np.quantile(tokens, np.linspace(0, 1, _QUANTILES), method="nearest")
    return Quantiles(tokens=tuple(int(value) for value in values))


def gate_weights_of(trace: RoutingTrace) -> GateWeights | None:
    """The Dirichlet distribution with the means, by rank, and the summed variance of the weights.

    Draws are sorted, so theirs lie a little further apart.
    """
    if trace.gate_weights is None:
        return None
    whole = (trace.expert_ids != NO_EXPERT).all(axis=2)
    rows = -np.sort(-trace.gate_weights[whole].astype(np.float64), axis=1)
    totals = rows.sum(axis=1)
    if not len(rows) or not totals.all():
        return None
    rows /= totals[:, None]
    means, variance = rows.mean(axis=0), float(rows.var(axis=0).sum())
    concentration = float((means * (1 - means)).sum()) / max(variance, 1e-9) - 1
    return GateWeights(
        means=tuple(round(max(float(value), 1e-4), 4) for value in means),
        concentration=round(min(max(concentration, 0.1), 1e4), 3),
        total=round(min(float(totals.mean()), 1.0), 4),
    )
