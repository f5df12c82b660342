"""What prefetches did, and what they are worth."""

from __future__ import annotations

from typing import Any

from moesim.engine.case import Case
from moesim.engine.counts import Counts
from moesim.engine.outcome import Outcome
from moesim.hardware.charge import WAITING_FOR_STORAGE

MS = 1_000_000
WAITS = ("waiting_for_weights", WAITING_FOR_STORAGE)
PREFETCH_KEYS = (
    "prefetches", "prefetches_used", "prefetches_promoted", "prefetches_cancelled", "late_share",
    "prefetch_bytes_wasted", "misses_caused_by_prefetch", "stall_without_prefetch_ms",
    "stall_hidden_share",
)  # fmt: skip


def prefetch_numbers(case: Case, counts: Counts, span: slice) -> dict[str, Any]:
    """Of rows ``span``: prefetches that started, were used, were promoted to demand copies or
    cancelled; the share of the used ones that came late; the bytes of those that nobody used; the
    misses of experts that prefetches had evicted. Zeros without prefetches.
    """
    used, late = int(counts.prefetches_used[span].sum()), int(counts.late[span].sum())
    sizes, made = counts.expert_bytes(case), counts.prefetched - counts.prefetches_used
    if case.variants is not None:
        made = counts.prefetched_as - counts.prefetches_used_as
        sizes = case.variants.sizes[: made.shape[1], : made.shape[-1]]
    return {
        "prefetches": int(counts.prefetched[span].sum()),
        "prefetches_used": used,
        "prefetches_promoted": int(counts.prefetches_promoted[span].sum()),
        "prefetches_cancelled": int(counts.prefetches_cancelled[span].sum()),
        "late_share": late / used if used else None,
        "prefetch_bytes_wasted": int((made[span].sum(axis=(0, 2)) * sizes).sum()),
        "misses_caused_by_prefetch": int(counts.misses_caused[span].sum()),
    }


def stall_hidden(case: Case, outcome: Outcome, without: Outcome | None) -> dict[str, Any]:
    """The stall of the same ``case`` ``without`` prefetches, waits for reads from storage included
    and, where the CPU may compute misses, those for it; and the share of it that is gone: negative
    where they made it longer, None where there was none or nothing was prefetched.
    """
    if without is None:
        return {"stall_without_prefetch_ms": None, "stall_hidden_share": None}
    beside = any(form.runs_on == "host" for form in case.miss.forms)
    names = (*WAITS, "waiting_for_cpu") if beside else WAITS
    waits = [place for place, name in enumerate(outcome.categories) if name in names]
    before, now = (int(one.charges[..., waits].sum()) for one in (without, outcome))
    share = (before - now) / before if before else None
    return {"stall_without_prefetch_ms": before / MS, "stall_hidden_share": share}
