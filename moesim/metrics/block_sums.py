"""A run's blocks: where its steps are cut, and the sums over each piece."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.metrics.blocks import Blocks, Kind
from moesim.metrics.summary import per_request, tpot_ms
from moesim.metrics.summary import warm_up_steps as share_of_steps
from moesim.metrics.ttft import prompt_passes
from moesim.metrics.warm_up import mser5
from moesim.trace.routing import Phase
from moesim.workload.lives import lives_of
from moesim.workload.schedule import Schedule

MOST_ROWS = 400
"""Rows of the table at most; neighbours are joined beyond."""
MS = 1_000_000


def blocks_of(case: Case, outcome: Outcome) -> Blocks:
    """The blocks of a run: those of its schedule alone, so that runs of one trace and batching have
    the same; and the rows that its warm-up touches.
    """
    kind, starts = pieces(case.schedule)
    sums = block_sums(case, outcome, starts)
    warm = warm_up_steps(case.schedule, outcome)
    return Blocks(sums, kind, min(int(np.searchsorted(starts, warm)), len(starts) - 1))


def cuts_of(case: Case, warm_up: float) -> Ints | None:
    """Passes such that a summary of ``case``, without its ``warm_up`` share too, and its blocks
    need counts and charges only of what is between two of them; None where they are not known
    beforehand, or each pass is asked about.
    """
    if case.scheduler or case.variants:
        return None
    if case.verifies or case.schedule.served is not None:
        return None
    schedule = case.schedule
    first, last, _ = prompt_passes(case)
    warm = share_of_steps(warm_up, schedule.passes)
    cuts = np.concatenate(([0, warm], pieces(schedule)[1], first, last + 1))
    return np.unique(cuts[(cuts >= 0) & (cuts < schedule.passes)])


def pieces(schedule: Schedule) -> tuple[Kind, Ints]:
    """Whether blocks are batches or steps, and the first pass of each piece.

    Batches end where no request goes on. Where requests join others that already decode, as with
    refill, there are no such ends to count on: a piece is then as many passes as the average
    request has.
    """
    lives = lives_of(schedule)
    first, last = (passes[lives.last >= 0] for passes in lives[:2])
    opened, closed = (np.bincount(x + 1, minlength=schedule.passes + 1) for x in (first, last))
    apart = (opened - closed).cumsum()[: schedule.passes] == 0
    starts: Ints = np.flatnonzero(apart)
    if joined_later(schedule, apart.cumsum() - 1, first):
        size = max(round(float((last - first + 1).mean())), -(-schedule.passes // MOST_ROWS))
        return "steps", np.arange(max(1, schedule.passes // size)) * size
    return "batch", starts[:: -(-len(starts) // MOST_ROWS)]


def joined_later(schedule: Schedule, piece: Ints, first: Ints) -> bool:
    """Whether a request begins after the first decode pass of the piece that it begins in."""
    decode = np.flatnonzero(schedule.phase == Phase.DECODE)
    begins = np.full(int(piece[-1]) + 1, schedule.passes)
    np.minimum.at(begins, piece[decode], decode)
    return bool((first > begins[piece[first]]).any())


def block_sums(case: Case, outcome: Outcome, starts: Ints) -> pd.DataFrame:
    """A row for each piece that begins at a pass of ``starts``: times in ns, the TPOT of requests
    by the piece in which they decode first.
    """
    schedule, counts = case.schedule, outcome.counts
    ends = outcome.ends.max(axis=1)
    sizes = schedule.output_tokens()
    by_pass = {
        "steps": np.ones_like(sizes),
        "duration_ns": np.diff(ends, prepend=0),
        "tokens": sizes,
        "decode_tokens": schedule.answer_tokens(),
    }
    counted = {
        "activations": counts.activations,
        "hits": counts.hits,
        "accesses": counts.kept_rows,
        "access_hits": counts.access_hits,
    }
    sums = {name: np.add.reduceat(values, starts) for name, values in by_pass.items()}
    rows = outcome.row(starts)
    sums |= {name: np.add.reduceat(n.sum(axis=(1, 2)), rows) for name, n in counted.items()}
    requests = per_request(case, outcome)
    tpot = tpot_ms(requests)
    known = ~np.isnan(tpot)
    place = starts.searchsorted(ends.searchsorted(requests["first_ns"][known]), "right") - 1
    spent = np.zeros_like(starts)
    np.add.at(spent, place, np.rint(tpot[known] * MS).astype(np.int64))
    timed = np.bincount(place, minlength=len(starts))
    return pd.DataFrame({"first_step": starts, **sums, "timed_requests": timed, "tpot_ns": spent})


def warm_up_steps(schedule: Schedule, outcome: Outcome) -> int:
    """Passes to leave out by MSER-5 on the time a token of the passes that decode, or of all where
    none does.
    """
    decode: NDArray[np.bool_] = schedule.phase == Phase.DECODE
    used = np.flatnonzero(decode) if decode.any() else np.arange(schedule.passes)
    spent = np.diff(outcome.ends.max(axis=1), prepend=0)[used]
    cut = mser5(spent / schedule.output_tokens()[used])
    return int(used[cut]) if cut else 0
