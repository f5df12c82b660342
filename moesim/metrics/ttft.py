"""The time to a request's first token, and what it is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.trace.routing import Phase
from moesim.workload.lives import lives_of

Floats = NDArray[np.float64]
MS = 1_000_000


def prompt_passes(case: Case) -> tuple[Ints, Ints, Ints]:
    """By request, in file order: the passes with its first and its last prompt token, -1 where it
    has no prompt or the run ends before it does, and its GPU. Of requests that a scheduler serves
    the second pass is the one that gives the first token.
    """
    schedule, trace = case.schedule, case.trace
    gpu = np.zeros(int(schedule.request.max()) + 1, np.int64)
    gpu[schedule.request] = schedule.gpu
    if schedule.served is not None:
        begins, given = lives_of(schedule).first, lives_of(schedule, Phase.DECODE)
        there = given.last >= 0
        return np.where(there, begins, -1), np.where(there, given.first, -1), gpu
    prompts = lives_of(schedule, Phase.PREFILL)
    after = np.minimum(prompts.row + 1, trace.tokens - 1)
    goes_on = (trace.request_id[after] == trace.request_id[prompts.row]) & (after > prompts.row)
    ended = (prompts.row >= 0) & ~(goes_on & (trace.phase[after] == Phase.PREFILL))
    first, last = (np.where(ended, passes, -1) for passes in prompts[:2])
    return first, last, gpu


def ttft_ms(case: Case, outcome: Outcome) -> dict[str, Floats]:
    """Milliseconds to the first token by request: in all, and by what its GPU was charged (they add
    up, but for time in which a pass may not start). NaN where ``prompt_passes`` has -1.
    """
    first, last, gpu = prompt_passes(case)
    charged = np.concatenate((np.zeros_like(outcome.charges[:1]), outcome.charges.cumsum(axis=0)))
    parts = (charged[outcome.row(last + 1), gpu] - charged[outcome.row(first), gpu]).T
    columns = {"ttft_ms": outcome.ends[last, gpu] - outcome.starts[first, gpu]}
    of_parts = zip(outcome.categories, parts, strict=True)
    columns |= {f"ttft_{name}_ms": part for name, part in of_parts}
    return {name: np.where(last < 0, np.nan, part / MS) for name, part in columns.items()}
