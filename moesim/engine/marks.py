"""Whose tokens need experts, where passes hold tokens of answers and of prompts: every activation
is marked by that, and misses are counted by mark.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.slots.by_bytes import VICTIMS, Victims
from moesim.memory.slots.decisions import ACTIVATIONS
from moesim.runtime.compiled import inlined, njit, types

DECODE, PROMPT, BOTH = 1, 2, 3
"""Marks; 0: no token chooses the expert."""
MARKS = ("decode", "prompt", "both")
MARKED = (
    *(f"{mark}_activations" for mark in MARKS), *(f"{mark}_misses" for mark in MARKS),
    *(f"{mark}_read" for mark in MARKS), "decode_misses_caused_by_prompts",
)  # fmt: skip
"""What is counted by mark: of misses those whose weights came over the link, too, and of misses
marked decode those whose expert an activation marked prompt had evicted, the last time."""
ACTIVATED, MISSED, READ, CAUSED = (n * len(MARKS) for n in range(4))


def is_marked(case: Case) -> bool:
    """Whether misses of ``case`` are counted by mark: its scheduler says which tokens decode, and
    what it needs is decided pass by pass, without variants.
    """
    return case.schedule.served is not None and case.variants is None and not case.prefetches


def marks_of(decoded: Ints, chosen: Ints) -> Ints:
    """Marks of experts that ``chosen`` tokens choose, of which ``decoded`` are decoded."""
    found: Ints = DECODE * (decoded > 0) + PROMPT * (chosen > decoded)
    return found


@inlined
def count_marks(
    offsets: Any, active: Any, marks: Any, made: Any, victims: Any, read: Any, evicted_by: Any,
    own: Any, out: Any,
) -> None:  # fmt: skip
    """Add to ``out`` int64[MARKED, steps] what the activations ``made`` for ``active`` experts with
    ``marks`` come to.

    ``victims``: of all of them, without offsets those that ``made`` says, if any. ``read``
    bool[forms]: whether a miss of a form comes over the link; empty: all do.
    ``evicted_by`` int64[experts] is the mark of what evicted each last, and kept up; ``own``
    int64[experts] is room.
    """
    expert, hit, _, _, victim, form = made
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        for i in range(low, high):
            own[active[i]] = marks[i]
        for i in range(low, high):
            e = expert[i]
            mark = own[e]
            if mark > 0:
                out[ACTIVATED + mark - 1, step] += 1
            if mark > 0 and not hit[i]:
                out[MISSED + mark - 1, step] += 1
                out[READ + mark - 1, step] += len(read) == 0 or read[form[i]]
                out[CAUSED, step] += mark == DECODE and evicted_by[e] == PROMPT
            if len(victims.offsets) > 0:
                for j in range(victims.offsets[i], victims.offsets[i + 1]):
                    evicted_by[victims.experts[j]] = mark
            elif len(victim) > 0 and victim[i] >= 0:
                evicted_by[victim[i]] = mark


_FLAT = types.int64[::1]


@njit(
    types.void(
        _FLAT, _FLAT, _FLAT, ACTIVATIONS, VICTIMS, types.boolean[::1], _FLAT, _FLAT,
        types.int64[:, ::1],
    ),
    cache=True,
)  # fmt: skip
def _count(
    offsets: Any, active: Any, marks: Any, made: Any, victims: Any, read: Any, evicted_by: Any,
    own: Any, out: Any,
) -> None:  # fmt: skip
    count_marks(offsets, active, marks, made, victims, read, evicted_by, own, out)


NO_VICTIMS = Victims(np.empty(0, np.int64), np.empty(0, np.int64))


class Marking(NamedTuple):
    """``evicted_by`` int64[experts] of every pool and ``read``, as ``count_marks`` takes them."""

    read: Any
    evicted_by: dict[tuple[int, int], Ints]

    @classmethod
    def of(cls, case: Case) -> Marking:
        """Nothing has been evicted."""
        flags = case.flags
        return cls(flags.in_slot | flags.over_link, {})

    def forget(self, key: tuple[int, int], gone: list[int]) -> None:
        """No activation evicted the experts ``gone`` of the pool ``key``."""
        if key in self.evicted_by:
            self.evicted_by[key][gone] = 0

    def counted(
        self, key: tuple[int, int], experts: int, active: ActiveExperts, marks: Ints,
        made: Activations, victims: Victims = NO_VICTIMS,
    ) -> Ints:  # fmt: skip
        """Of the pool ``key`` of ``experts``, what ``made`` for ``active`` comes to: int64[steps,
        MARKED].
        """
        evicted_by = self.evicted_by.setdefault(key, np.zeros(experts, np.int64))
        own = np.zeros_like(evicted_by)
        out = np.zeros((len(MARKED), len(active.offsets) - 1), np.int64)
        whole = Activations(*(np.ascontiguousarray(values) for values in made))
        given = (active.offsets, active.experts, marks, whole, victims, self.read)
        _count(*given, evicted_by, own, out)
        return out.T
