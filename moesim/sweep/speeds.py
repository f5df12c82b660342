"""How fast the points of a sweep are, and what they drop for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moesim.config.registry import Registry
from moesim.memory.policies import registry as policies
from moesim.memory.prefetch import registry as prefetchers
from moesim.sweep.kinds import kinds


def numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    """``column`` as floats; missing where the table lacks it or its value."""
    if column not in table.columns:
        return pd.Series(np.nan, index=table.index)
    return table[column].astype("float64")


def throughput(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point: decoded ones, or processed ones where none decodes.

    The series' name says which and is a key of ``THROUGHPUTS``.
    """
    output = numbers(table, "output_throughput")
    if (output > 0).any():
        return output.rename("output_throughput_tokens_per_s")
    return processed(table)


def processed(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point, those of prompts and those decoded."""
    speed = numbers(table, "tokens") * 1e3 / numbers(table, "duration_ms")
    return speed.rename("processed_throughput_tokens_per_s")


THROUGHPUTS = {
    "output_throughput_tokens_per_s": "Output throughput (tokens/s)",
    "processed_throughput_tokens_per_s": "Throughput, prompts included (tokens/s)",
}
"""The columns that a throughput stands in, and what their axis says."""


def dropped_share(table: pd.DataFrame) -> pd.Series[float]:
    """The share of each point's choices that its gating dropped, 0 where it dropped none."""
    return numbers(table, "dropped_share").fillna(0.0).rename("dropped_share")


def ranked(
    table: pd.DataFrame, *, allow_drops: bool = False, offline: bool = False
) -> pd.Series[float]:
    """The throughput of the points that ran to their end, the fastest first: of those that dropped
    no choice, or also of others with ``allow_drops``; of those that any program can reach, where
    there are some, or also of those that know the future with ``offline``.
    """
    speed = throughput(table)[table["status"] == "ok"].dropna()
    if not allow_drops:
        speed = speed[dropped_share(table)[speed.index] == 0]
    known = knows_future(table)[speed.index]
    if not offline and not known.all():
        speed = speed[~known]
    return speed[speed > 0].sort_values(ascending=False, kind="stable")


def knows_future(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether a policy or prefetcher of each point, on an axis, knows the future (``min``, an
    oracle).
    """
    known = pd.Series(data=False, index=table.index)
    for path, registry in (("experts.policy", policies), ("experts.prefetch", prefetchers)):
        known |= kinds(table, path).map(lambda kind, known=registry: _looks_ahead(kind, known))
    return known


def _looks_ahead(kind: str, known: Registry[Any]) -> bool:
    return bool(getattr(known.components.get(kind), "looks_ahead", False))


def share_in_words(share: float) -> str:
    """``38.0 %``; what is there but too small to show as ``<0.1 %``."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"  # noqa: PLR2004


def drops_in_words(shares: pd.Series[float]) -> str:
    """``drops 38.0 %`` of one point, ``drops 0.0 % to 38.0 %`` of several; "" where none is
    dropped.
    """
    known = shares.dropna()
    if not (known > 0).any():
        return ""
    ends = dict.fromkeys(share_in_words(float(end)) for end in (known.min(), known.max()))
    return f"drops {' to '.join(ends)}"
