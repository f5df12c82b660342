"""What verifying drafts gave, and what it took."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case
from moesim.engine.counts import Counts
from moesim.trace.routing import Phase

SPECULATION_KEYS = (
    "mean_acceptance_length", "draft_acceptance_rate", "distinct_experts_per_pass",
)  # fmt: skip


def speculation_numbers(case: Case, counts: Counts, span: slice) -> dict[str, Any]:
    """Of passes ``span``: tokens that a request keeps of a step in which it decodes, the share of
    drafts that are accepted (None of none), and the mean number of distinct experts in a MoE layer
    of a decode step, over all GPUs, those that hold parts of the same counted once. Nothing without
    speculation.
    """
    schedule = case.schedule
    if not case.verifies:
        return {}
    decode = schedule.phase == Phase.DECODE
    used = np.zeros(schedule.passes, bool)
    used[span] = decode[span]
    rows = used[schedule.pass_of_token()]
    if schedule.served is not None:
        rows = schedule.served.decodes.copy()
        rows[: schedule.offsets[span.start]] = False
    kept = int(rows.sum() if schedule.kept is None else schedule.kept[rows].sum())
    width = int(schedule.request.max()) + 1
    steps = len(np.unique((schedule.pass_of_token() * width + schedule.request)[rows]))
    drafts = int(rows.sum()) - steps
    layers = int(used.sum()) * len(case.model.moe_layers) * case.slices
    return {
        "mean_acceptance_length": kept / steps if steps else None,
        "draft_acceptance_rate": (kept - steps) / drafts if drafts else None,
        "distinct_experts_per_pass": (
            int(counts.activations[used].sum()) / layers if layers else None
        ),
    }
