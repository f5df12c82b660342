"""Activations that leave the slots as they are: what is not in one passes through staging
buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from moesim.memory.forms import IN_SLOT, Form, flags_of, without_room
from moesim.memory.misses.base import Missing
from moesim.memory.slots.decisions import ACTIVATIONS, RULES
from moesim.memory.slots.split import ROWS, add_miss, divide
from moesim.runtime.compiled import inlined, types

STAGING_BUFFERS = 2
"""One expert is copied while another computes."""


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
STAGE = types.void(RULES, _TABLE, _TABLE, _FLAT, _FLAT, ACTIVATIONS)
"""The signature of what ``stage_with`` makes."""


@inlined
def _plan(low: int, high: int, demand: Any, order: Any, hit: Any, planned: Any) -> None:
    """Divide the misses of a step, activations low:high; ``demand``: prices, moved, loads_of."""
    if len(planned) == 0:
        return
    missing, number = np.empty(high - low, np.int64), 0
    for at in np.sort(order[low:high][~hit[low:high]]):
        number = add_miss(missing, number, at, demand[0])
    divide(missing, number, demand[0], demand[1], demand[2], planned)


def stage_with(place: Any, forms: Sequence[Form], splits: bool) -> Callable[..., None]:
    """The activations around the slots where ``place`` says which of ``forms`` a miss has;
    ``splits`` as for ``steps.decide_in_with``.
    """
    on_gpu, on_host, _, in_slot, _ = flags_of(forms)
    alone = without_room(tuple(forms))

    def stage(rules: Any, prices: Any, moved: Any, offsets: Any, order: Any, out: Any) -> None:
        """Form and launch of every activation; ``order`` int64[activations] its active expert;
        experts and hits are in ``out``.

        ``prices`` and ``moved`` as for ``steps.decide_in_with``.
        """
        launch_of = np.empty(STAGING_BUFFERS, np.int64)
        planned = np.ones(len(order) if splits else 0, np.int64)
        for step in range(len(offsets) - 1):
            told = (prices, moved, rules.loads_of)
            _plan(offsets[step], offsets[step + 1], told, order, out.hit, planned)
            launch = members = loads = copied = hosted = 0
            crossed = False
            for i in range(offsets[step], offsets[step + 1]):
                hit, form = out.hit[i], IN_SLOT
                copy_ns = kernel_ns = host_ns = 0
                if not hit:
                    if prices.shape[1] > 0:
                        copy_ns, kernel_ns, host_ns = prices[:ROWS, order[i]]
                    plan, so_far = planned[order[i]] if splits else 0, (copied, hosted, loads)
                    one = Missing(*so_far, copy_ns, kernel_ns, host_ns, rules.most_loads, plan)
                    form = alone[place(one)]
                out.launch[i], out.wait[i], out.form[i] = -1, -1, form
                if not on_gpu[form]:
                    hosted += host_ns if on_host[form] else 0
                    continue
                staged = not hit and in_slot[form]
                crosses = rules.resident_first and not hit and not crossed
                crossed = crossed or crosses
                if (rules.serial or staged or crosses) and members > 0:
                    launch += 1
                    members = 0
                members += 1
                out.launch[i] = launch
                if staged:
                    if loads >= STAGING_BUFFERS:
                        out.wait[i] = launch_of[loads % STAGING_BUFFERS]
                    launch_of[loads % STAGING_BUFFERS] = launch
                    loads += 1
                    copied += copy_ns

    return stage
