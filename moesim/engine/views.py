"""What prefetchers see of a run, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.prefetch import Fetched, Predictions
from moesim.engine.routing import Routing, of_all
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Key, View
from moesim.runtime.compiled import inlined, njit, types
from moesim.trace.routing import NO_EXPERT

IDS = types.Array(types.uint16, 3, "C", readonly=True)


class Views:
    """Views of a case's chunks; they are asked for in order. ``fetched`` of passes first:last: in
    which variants.
    """

    def __init__(
        self, case: Case, routing: Routing, fetched: Callable[[int, int], Fetched | None]
    ) -> None:
        self.case, self.routing, self.fetched = case, routing, fetched
        self._before: dict[Key, Ints] = {}
        self._past: dict[Key, ActiveExperts] = {}
        self._counted: dict[tuple[int, int, float], Ints] = {}

    def predictions(
        self, first: int, last: int, needed: Callable[[int, int], dict[Key, ActiveExperts]],
        *, apart: bool = False,
    ) -> Predictions:  # fmt: skip
        """Of passes first:last, and those after them that are predicted in these, if there are;
        ``needed`` finds the active experts of passes; ``apart`` as in ``View``.
        """
        routing, schedule = self.routing, self.case.schedule
        behind = 0 if schedule.foreseen else self.case.prefetch.every
        end = min(last + behind, schedule.passes)
        view = View(
            first=first,
            local=self.routing.local,
            logical=self.case.placement.logical,
            active_experts=needed(first, end),
            before=dict(self._before),
            active=self.routing.active(first, end),
            chosen=cache(lambda: of_all(routing.choices(first, end))),
            recorded=self.routing.recorded(first, end) if self.case.prefetch.recorded else None,
            followers=self._followers,
            seed=self.case.seed,
            slices=self.case.slices,
            apart=apart,
            past=dict(self._past),
        )
        self._remember(view, last - first)
        return Predictions(self.case.prefetch, view, self.fetched(first, end))

    def mark(self) -> tuple[dict[Key, Ints], dict[Key, ActiveExperts]]:
        """What ``back`` goes back to."""
        return dict(self._before), dict(self._past)

    def back(self, mark: tuple[dict[Key, Ints], dict[Key, ActiveExperts]]) -> None:
        """Nothing has been predicted since then."""
        self._before, self._past = dict(mark[0]), dict(mark[1])

    def _remember(self, view: View, passes: int) -> None:
        for (layer, gpu), active_experts in view.active_experts.items():
            ran = np.flatnonzero(view.active[:passes, layer])
            if len(ran):
                low, high = active_experts.offsets[ran[-1]], active_experts.offsets[ran[-1] + 1]
                self._before[layer, gpu] = active_experts.experts[low:high]
        if most := self.case.prefetch.remembers:
            self._past = {key: _last(view, key, passes, most) for key in view.active_experts}

    def _followers(self, source: int, target: int, part: float) -> Ints:
        """See ``View.followers``; counted once."""
        key = (source, target, part)
        if key not in self._counted:
            self._counted[key] = self._count_followers(*key)
        return self._counted[key]

    def _count_followers(self, source: int, target: int, part: float) -> Ints:
        tokens = ceil(Fraction(str(part)) * self.case.trace.tokens)
        counts = np.zeros((self.routing.logical, self.routing.logical), np.int64)
        ids = self.case.trace.expert_ids[:tokens]
        _count_pairs(ids, source, target, np.empty(ids.shape[2], np.bool_), counts)
        return counts


def _last(view: View, key: Key, passes: int, most: int) -> ActiveExperts:
    """At most so many passes up to the first ``passes`` of ``view``."""
    known, past = view.known(*key)
    return known.between(max(0, past + passes - most), past + passes)


@njit(
    types.void(IDS, types.int64, types.int64, types.boolean[::1], types.int64[:, ::1]), cache=True
)
def _count_pairs(ids: Any, source: int, target: int, new: Any, counts: Any) -> None:
    """Add to ``counts`` how many tokens of ``ids`` choose one expert in the MoE layer ``source``
    and another in ``target``; ``new`` bool[k] is room for which of these a token has not named yet.
    """
    for token in range(len(ids)):
        first, second = ids[token, source], ids[token, target]
        for j in range(len(second)):
            new[j] = _is_new(second, j)
        for i in range(len(first)):
            for j in range(len(second) if _is_new(first, i) else 0):
                if new[j]:
                    counts[first[i], second[j]] += 1


@inlined
def _is_new(chosen: Any, i: int) -> bool:
    """Whether choice ``i`` is an expert, and none of those before it."""
    new = chosen[i] != NO_EXPERT
    for j in range(i):
        new &= chosen[j] != chosen[i]
    return bool(new)
