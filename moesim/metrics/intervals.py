"""Intervals of a run's numbers, and of how far two runs are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.metrics.blocks import Blocks
from moesim.metrics.bootstrap import CONFIDENCE, limits, weights
from moesim.metrics.price_interval import (
    SPEEDS,
    speed_apart,
    speed_reason,
    time_apart,
    time_reason,
)

Floats = NDArray[np.float64]
Prices = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
EXACT = 1e-9
"""Percent: ends so near are one."""
FEWEST = 10
"""Blocks below which there is no interval."""


class Ratio(NamedTuple):
    """A number as a ratio of two sums times ``scale``; two runs' are compared by ratio, or, where
    it is itself a ``share``, by difference.
    """

    part: str
    whole: str
    scale: float = 1.0
    share: bool = False

    def of(self, sums: pd.DataFrame, weight: Floats) -> Floats:
        """Its value with each row of ``weight``, float64[resamples, rows]; NaN for 0 / 0."""
        part, whole = (weight @ sums[name].to_numpy(np.float64) for name in (self.part, self.whole))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(part * self.scale / whole)


RATIOS: Mapping[str, Ratio] = {
    "output_throughput": Ratio("decode_tokens", "duration_ns", 1e9),
    "total_token_throughput": Ratio("tokens", "duration_ns", 1e9),
    "mean_tpot_ms": Ratio("tpot_ns", "timed_requests", 1e-6),
    "hit_ratio_per_expert": Ratio("hits", "activations", share=True),
    "hit_ratio_per_access": Ratio("access_hits", "accesses", share=True),
}
"""The numbers of a summary that have an interval."""
BY_PRICES = {
    **dict.fromkeys(SPEEDS, (speed_apart, speed_reason)),
    "mean_tpot_ms": (time_apart, time_reason),
}
"""How prices move those of ``RATIOS`` that they move, and why they are not told apart by them."""


def intervals(blocks: Blocks) -> dict[str, Any]:
    """The key ``intervals`` of a summary: how they were made, and for each of ``RATIOS`` its
    ``value`` after the warm-up, ``low`` and ``high``; None where there is none, with the
    ``reason``.
    """
    kept, total = blocks.kept, int(blocks.sums["steps"].sum())
    steps = int(kept["steps"].sum())
    count = blocks.count(len(kept))
    weight, apart = weights(len(kept), blocks.width(len(kept))), blocks.apart(len(kept))
    none = too_few(count)
    return {
        "confidence": CONFIDENCE,
        "block": blocks.kind,
        "blocks": count,
        "steps_per_block": steps / count,
        "warm_up_steps": total - steps,
        "warm_up_share": (total - steps) / total,
        "reason": none,
        **{
            name: _interval(ratio, kept, weight, None if none else apart)
            for name, ratio in RATIOS.items()
        },
    }


def too_few(count: int) -> str | None:
    """Why ``count`` blocks give no interval, None where they do."""
    if count >= FEWEST:
        return None
    return f"{count} block{'s' * (count != 1)} after the warm-up; an interval needs {FEWEST}"


def _interval(
    ratio: Ratio, sums: pd.DataFrame, weight: Floats, apart: float | None
) -> dict[str, Any]:
    value = float(ratio.of(sums, np.ones((1, len(sums))))[0])
    if not np.isfinite(value):
        return dict.fromkeys(("value", "low", "high"))
    low, high = (None, None) if apart is None else limits(ratio.of(sums, weight), apart)
    return {"value": value, "low": low, "high": high}


@dataclass(frozen=True)
class Difference:
    """How far the first of two runs is above the second: in percent of it, or in percent points of
    a share. ``low`` and ``high`` are None where there is no interval, for ``reason``;
    ``price_low`` and ``price_high``: what the prices' errors leave of it, None where none is known.

    ``paired``: both were resampled with the same blocks; ``blocks``: of the one with fewer.
    """

    value: float
    low: float | None
    high: float | None
    paired: bool
    kind: str
    blocks: int
    reason: str | None = None
    price_low: float | None = None
    price_high: float | None = None

    @property
    def distinguishable(self) -> bool:
        """Whether both intervals leave 0 out."""
        return leaves_out_0(self.low, self.high) and self.by_prices

    @property
    def by_prices(self) -> bool:
        """Whether the prices' errors, as far as they are known, cannot turn the two round."""
        if self.price_low is None or self.price_high is None:
            return True
        nothing_open = self.price_high - self.price_low < EXACT
        return nothing_open or leaves_out_0(self.price_low, self.price_high)


def leaves_out_0(low: float | None, high: float | None) -> bool:
    """Whether there is such an interval, and 0 lies outside."""
    return low is not None and high is not None and not low <= 0 <= high


def difference(
    first: Blocks, second: Blocks, name: str, prices: Prices = (None, None)
) -> Difference | None:
    """How far ``first`` is above ``second`` in ``RATIOS[name]``; None where one has no such number.
    ``prices``: the ``price_interval`` of both, for what they move; no throughput is told apart that
    is what arrives.

    Runs of the same batches of one trace are resampled with the same blocks (common random
    numbers), others independently of each other.
    """
    paired = same_batches(first, second)
    warm = max(first.warm_up, second.warm_up)
    sides = [b.sums.iloc[warm:] if paired else b.kept for b in (first, second)]
    ratio = RATIOS[name]
    value = _apart(ratio, *(ratio.of(side, np.ones((1, len(side)))) for side in sides))[0]
    if not np.isfinite(value):
        return None
    rows = [(b, len(side)) for b, side in zip((first, second), sides, strict=True)]
    count = min(b.count(many) for b, many in rows)
    kind = first.kind if first.kind == second.kind else "steps"
    apart, reason_of = BY_PRICES.get(name, (speed_apart, speed_reason))
    moved = prices if name in BY_PRICES else (None, None)
    by_prices = apart(float(value), *moved) or (None, None)
    if reason := reason_of(*moved) or too_few(count):
        return Difference(float(value), None, None, paired, kind, count, reason, *by_prices)
    drawn = [
        ratio.of(side, weights(many, b.width(many), 0 if paired else stream))
        for stream, (side, (b, many)) in enumerate(zip(sides, rows, strict=True))
    ]
    low, high = limits(_apart(ratio, *drawn), min(b.apart(many) for b, many in rows))
    return Difference(float(value), low, high, paired, kind, count, None, *by_prices)


def speed_difference(
    first: Blocks | None, second: Blocks | None, prices: Prices = (None, None)
) -> Difference | None:
    """How far ``first`` is faster than ``second``: by decoded tokens a second, or by all where
    none is decoded; ``prices`` as in ``difference``.
    """
    if first is None or second is None:
        return None
    return next(filter(None, (difference(first, second, name, prices) for name in SPEEDS)), None)


def same_batches(first: Blocks, second: Blocks) -> bool:
    """Whether two runs made the same forward passes of one trace."""
    columns = ["first_step", "steps", "tokens", "decode_tokens"]
    same = first.trace == second.trace and first.kind == second.kind
    return same and first.sums[columns].equals(second.sums[columns])


def _apart(ratio: Ratio, first: Floats, second: Floats) -> Floats:
    """In percent, or percent points."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * (first - second if ratio.share else first / second - 1))
