"""What experts are needed for, where steps hold tokens of answers and of prompts."""

from __future__ import annotations

from typing import Any

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts
from moesim.engine.marks import ACTIVATED, CAUSED, MARKS, MISSED, READ

CAUSED_KEY = "decode_misses_caused_by_prompts"
MARK_KEYS = (
    *(f"{mark}_{what}" for what in ("misses", "bytes_h2d", "hit_ratio") for mark in MARKS),
    CAUSED_KEY,
)


def mark_columns(case: Case, counts: Counts) -> dict[str, Ints]:
    """By pass, int64[passes] each: misses, and the bytes that came for them, of experts that only
    ``decode`` tokens need, only tokens of a ``prompt``, or ``both``; nothing where that is not
    counted.
    """
    if counts.marked is None:
        return {}
    of_layers, sizes = counts.marked.sum(axis=2), counts.expert_bytes(case) * (not case.in_place)
    missed, read = of_layers[..., MISSED:READ].sum(axis=1), of_layers[..., READ:CAUSED]
    came = (read * sizes[:, None]).sum(axis=1)
    return {
        **{f"{mark}_misses": missed[:, place] for place, mark in enumerate(MARKS)},
        **{f"{mark}_bytes_h2d": came[:, place] for place, mark in enumerate(MARKS)},
        CAUSED_KEY: of_layers[..., CAUSED].sum(axis=1),
    }


def mark_numbers(case: Case, counts: Counts, span: slice) -> dict[str, Any]:
    """The sums of ``mark_columns`` over rows ``span``, and of each mark the share of activations
    that hit.
    """
    if counts.marked is None:
        return {}
    columns = mark_columns(case, counts)
    sums: dict[str, Any] = {name: int(column[span].sum()) for name, column in columns.items()}
    made = counts.marked[span, ..., ACTIVATED:MISSED].sum(axis=(0, 1, 2)).tolist()
    for mark, number in zip(MARKS, made, strict=True):
        missed = sums[f"{mark}_misses"]
        sums[f"{mark}_hit_ratio"] = 1 - missed / number if number else None
    return {key: sums[key] for key in MARK_KEYS}
