"""How misses were served, and what was left out, as the keys of a summary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts
from moesim.memory.forms import LOADED, NAMED, ON_HOST, Form, flags_of

SKIPPED_KEYS = ("skipped_choices", "skipped_share", "skipped_gate_weight_share")


def form_keys(forms: Sequence[Form]) -> dict[str, Form]:
    """The forms whose misses are counted in a run with ``forms``, by key: all but loads, which are
    the rest.
    """
    return {f"misses_{form.counted}": form for form in (*NAMED, *forms) if form != LOADED}


def misses_by_form(counts: Counts, span: slice) -> dict[str, int]:
    """The misses of rows ``span`` in each form of ``form_keys``; all that the host computed are
    on the CPU, those in the background too.
    """
    keys = form_keys(counts.forms)
    missed = {key: counts.missed_as(form) for key, form in keys.items()}
    missed[f"misses_{ON_HOST.counted}"] = counts.hosted
    return {key: int(of_form[span].sum()) for key, of_form in missed.items()}


def skipped_keys(forms: Sequence[Form]) -> dict[str, None]:
    """The keys of ``skipped_numbers``, without numbers."""
    return dict(zip(SKIPPED_KEYS, repeat(None))) if flags_of(forms).nowhere.any() else {}


def skipped_numbers(counts: Counts, span: slice) -> dict[str, Any]:
    """Of a run that may skip experts: the choices of rows ``span`` that nothing computed, their
    share of all, and that of their gate weight; None where the trace has no weights.
    """
    if not counts.flags.nowhere.any():
        return {}
    skipped, kept, dropped = (
        int(one[span].sum())
        for one in (counts.skipped_rows, counts.kept_rows, counts.dropped_choices)
    )
    weight, whole = (
        int(one[span].sum()) for one in (counts.skipped_weight, counts.lost_weight[..., 1])
    )
    parts = ((skipped, kept + dropped), (weight, whole))
    shares = (part / of if of else None for part, of in parts)
    return dict(zip(SKIPPED_KEYS, (skipped, *shares), strict=True))


def left_out_columns(case: Case, counts: Counts, where: tuple[Ints, Ints, Ints]) -> dict[str, Any]:
    """Of a run that may skip experts or drop choices, by (step, MoE layer, GPU) ``where``: the
    choices that nothing computed on this GPU, or that all GPUs dropped, and their shares of the
    layer's gate weight in the step; NaN without weights.
    """
    step, layer, _ = where
    lost, whole = counts.lost_weight[step, layer].T
    found = {}
    if counts.flags.nowhere.any():
        found["skipped"] = counts.skipped_rows[where], counts.skipped_weight[where]
    if case.gating.drops is not None:
        found["dropped"] = counts.dropped_choices[step, layer], lost
    columns = {}
    for name, (choices, weight) in found.items():
        columns[f"{name}_choices"] = choices
        share = np.where(whole > 0, weight / np.maximum(whole, 1), np.nan)
        columns[f"{name}_gate_weight_share"] = share
    return columns
