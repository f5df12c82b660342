"""The clock of one GPU whose layers have a launch for each variant of experts that they need, each
behind its own copies, which wait for nothing but one another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import last_copy
from moesim.engine.replay.clock.one_gpu import BROUGHT, ONE, WORK, one_gpu_with
from moesim.engine.replay.clock.records import (
    EXPERTS,
    FILLED,
    FIXED,
    GPUS,
    PASSES,
    TABLE,
    WEIGHTS,
)
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import BUILT_IN, built_in, record, types


class VariedLaunches(NamedTuple):
    """How many experts of each variant are ``active`` in a MoE layer, uint8[passes, variants, MoE
    layers], and how many it ``misses`` in each form that is a copy, uint8[passes, forms, MoE
    layers]; what such a copy takes, ``copy_ns`` int64[MoE layers, forms], and what a launch takes,
    ``kernel_ns`` int64[MoE layers, variants, 1 + k], nothing without experts.
    """

    active: Any
    misses: Any
    copy_ns: Any
    kernel_ns: Any


_CUBE = types.uint8[:, :, ::1]
VARIED = record(VariedLaunches, _CUBE, _CUBE, TABLE, types.int64[:, :, ::1])


def _named(function: Any, of_copies: tuple[int, ...]) -> Any:
    """``function``, by what is built into it: compiled code is linked by names."""
    function.__qualname__ = f"{function.__name__}{BUILT_IN}{of_copies}"
    function.__name__ = f"_{function.__name__}{''.join(map(str, of_copies))}"
    return function


@built_in
def _whole(number: Any) -> Any:
    """A small ``number`` as others are computed with."""
    return np.int64(number)


def _work_with(of_copies: tuple[int, ...]) -> Any:
    """What a layer has to do; ``of_copies``: how many variants there are, and the variant of each
    form that is a copy.
    """
    variants, forms = of_copies[0], len(of_copies) - 1

    @inlined(WORK(VARIED, types.int64, types.int64))
    def varied(works: Any, p: int, moe: int) -> Any:
        """Copies and launches, which ``bring`` has played."""
        copies = launches = 0
        for form in range(forms):
            copies += _whole(works.misses[p, form, moe])
        for variant in range(variants):
            launches += works.active[p, variant, moe] > 0
        return copies, launches, 0, 0, 0, 0

    return _named(varied, of_copies)


def _bring_with(of_copies: tuple[int, ...]) -> Any:
    """The copies and launches of a layer; ``of_copies`` as for ``_work_with``.

    Where copies of one variant differ, none takes less than the host does to issue it, so that
    their order does not matter.
    """
    variants, of_forms = of_copies[0], of_copies[1:]
    forms, differ = len(of_forms), len(of_forms) > variants

    @inlined(BROUGHT(FIXED, VARIED, GPUS, TABLE, *[types.int64] * 7))
    def bring(
        fixed: Any, works: Any, _gpus: Any, charged: Any, p: int, moe: int, issues: int,
        known: int, copied: int, time: int, cursor: int,
    ) -> Any:  # fmt: skip
        """Where copies do not run beside kernels, those of a launch wait for the one before it. All
        that was charged up to ``cursor`` was so before ``time``. Nothing is branched on, as it
        would be guessed wrong too often.
        """
        charged_to, before, issued, waited = cursor, -1, known, 0
        lead = fixed.copy if fixed.blocking else 0
        for variant in range(variants):
            number = _whole(works.active[p, variant, moe])
            copies = copies_ns = each_ns = 0
            for form in range(forms):
                if of_forms[form] == variant:
                    each_ns, missed = works.copy_ns[moe, form], _whole(works.misses[p, form, moe])
                    copies, copies_ns = copies + missed, copies_ns + missed * each_ns
            free = max(copied, before - lead)
            there = last_copy(fixed.blocking, fixed.copy, each_ns, copies, issued, free)
            if differ:
                first = max(issued, free) if fixed.blocking else max(issued + fixed.copy, free)
                there = first + copies_ns + (copies * fixed.copy if fixed.blocking else 0)
            issued += copies * fixed.copy
            copied = there if copies > 0 else copied
            time = max(time, there) if copies > 0 else time
            waited += time - cursor if copies > 0 else 0
            time += works.kernel_ns[moe, variant, number]
            cursor = time if number > 0 else cursor
            before = time if number > 0 and not fixed.overlaps else before
        charged[ONE, WEIGHTS] += waited
        charged[ONE, EXPERTS] += cursor - charged_to - waited
        return time, cursor, copied, -1, issues

    return _named(bring, of_copies)


@lru_cache
def play_varied_of(*of_copies: int) -> Any:
    """The clock of layers whose experts have variants, ``of_copies`` as for ``_work_with``; kept on
    disk.
    """
    playing = one_gpu_with(_work_with(of_copies), _bring_with(of_copies))
    return compiled_clock(types.void(FIXED, PASSES, VARIED, GPUS, FILLED))(playing)
