"""Runs of one GPU whose passes have a row each, as of ``one_row``, where no stack tells what layers
miss: under any policy, decided in slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.replay.quick.activations import HITS
from moesim.engine.replay.quick.next_use import NextUse, Steps, look_back_rows
from moesim.engine.replay.quick.one_launch import have_one_launch
from moesim.engine.replay.quick.one_row import OneRow, room_for
from moesim.engine.replay.quick.sweeps import Swept
from moesim.engine.residency.pool_runs import request_starts
from moesim.engine.residency.residencies import Residencies
from moesim.engine.routing import units
from moesim.memory.slots.row_steps import WORD, RowPools, sweep_rows_of
from moesim.runtime.compiled import njit, types


@njit(types.void(types.uint16[:, ::1], types.int64[:, ::1], types.int64[::1]), cache=True)
def _count(misses: Any, hits: Any, copies: Any) -> None:
    """Take what layers miss from the ``hits`` of each, or of all, and add it to their copies."""
    for step in range(len(misses)):
        for layer in range(len(copies)):
            hits[step, layer if hits.shape[1] > 1 else 0] -= misses[step, layer]
            copies[layer] += misses[step, layer]


class AnyRows(OneRow):
    """Makes the runs of a case that it ``takes``."""

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case``, which is quick, and whose layers have slots of their own, is one."""
        return (
            case.offloaded
            and case.serving is None
            and not OneRow.takes(case)
            and have_one_launch(case)
        )

    def _as_they_are(self) -> RowPools | None:
        """The slots at the start; none where an earlier run has decided what is missed."""
        self._decided = self.reuse.decisions("misses of rows", self._told())
        return None if self._decided.known else self._pools()

    def _told(self) -> bytes:
        """Where the policy is told that a request begins, if it is to be told."""
        schedule = self.reuse.case.schedule
        if not self.reuse.case.policy.restarts or self.reuse.log is None:
            return b""
        return request_starts(schedule, 0, schedule.passes).tobytes()

    def _pools(self) -> RowPools:
        """The slots at the start."""
        case, finder = self.reuse.case, self.reuse.finder
        self._home = finder.home.astype(np.uint16)
        self._ahead = self._next_use() if case.policy.looks_ahead else None
        layers, experts, words = finder.layers, finder.width, _words_of(case)
        residencies = Residencies(case, self.reuse.routing, self._first_uses())
        caches = {layer: cache for (layer, _), cache in residencies.caches.items()}
        one = next(iter(caches.values()))
        slots, now = np.zeros((2, layers), np.int64)
        there = np.zeros((layers, words * WORD), np.bool_)
        state = np.zeros((layers, *one.state.shape), np.int64)
        draws, of_experts = np.zeros((layers, len(one.draws))), np.zeros((3, experts), np.int64)
        for layer, cache in caches.items():
            slots[layer], state[layer], draws[layer] = cache.slots, cache.state, cache.draws
            there[layer, :experts] = cache.resident
        bits = np.packbits(there, axis=1, bitorder="little").view(np.uint64)
        return RowPools(
            slots, bits, state, now, draws, *_weights_of(case), np.zeros(0, np.int32),
            np.zeros(words, np.uint64), *of_experts,
        )  # fmt: skip

    def _next_use(self) -> NextUse:
        finder = self.reuse.finder

        def look_back(first: int, last: int, coming: Ints) -> Steps:
            ids, rows, _, _ = finder.tokens(first, last)
            after = np.empty(len(rows) * finder.layers * self.top_k, np.int32)
            look_back_rows(first, ids, rows, self._home, coming, after)
            return after

        return NextUse(finder.layers, finder.width, list(self.reuse.runs()), look_back)

    def _first_uses(self) -> dict[tuple[int, int], Ints]:
        if self._ahead is None:
            return {}
        return {(layer, 0): one for layer, one in enumerate(self._ahead.first_uses())}

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: what comes again is held by run."""
        of_all = super().runs_of(first, last)
        return self.reuse.runs_of(first, last) if self.reuse.case.policy.looks_ahead else of_all

    def _sweep(self, first: int, ids: NDArray[np.uint16], rows: Ints, swept: Swept) -> None:
        """See ``OneRow``."""
        (misses,) = self._decided.arrays(first, lambda: (self._missed(first, ids, rows),))
        swept.misses[:] = misses
        _count(swept.misses, swept.counts[HITS, :, :, 0], swept.copies)

    def _missed(self, first: int, ids: NDArray[np.uint16], rows: Ints) -> NDArray[np.uint16]:
        """What each layer misses of passes from ``first`` on, which have ``rows`` of ``ids``."""
        case, pools = self.reuse.case, self._held
        misses = np.zeros((len(rows), len(pools.slots)), np.uint16)
        if self._ahead is not None:
            pools = pools._replace(after=self._ahead.after(first))
        sweep = _sweep_of(case)
        for low, high in self._begin(first, len(rows)):
            sweep(ids, rows[low:high], self._home, first + low, pools, misses[low:high])
        return misses

    def end(self) -> None:
        """As ``Maker`` says."""
        self._decided.end()

    def _begin(self, first: int, passes: int) -> Iterator[tuple[int, int]]:
        """What of so many passes from ``first`` on is swept at once: a policy that ``restarts`` is
        told before it.
        """
        policy, schedule, starts = self.reuse.case.policy, self.reuse.case.schedule, []
        if policy.restarts:
            starts = np.flatnonzero(request_starts(schedule, first, first + passes)).tolist()
        for low, high in pairwise([*sorted({0, *starts}), passes]):
            for layer in np.flatnonzero(self._held.slots if low in starts else ()):
                policy.start_request(self._held.state[layer], first + low)
            yield low, high


def _sweep_of(case: Case) -> Any:
    """What decides passes of ``case``."""
    return sweep_rows_of(type(case.policy), _words_of(case), room_for(case.trace.top_k))


def _words_of(case: Case) -> int:
    return -(-case.placement.physical // WORD)


def _weights_of(case: Case) -> tuple[NDArray[np.uint16], Ints]:
    """Gate weights as the trace has them, and what each is, where the policy reads them."""
    weights, of_bits = np.zeros((0, 0, 0), np.uint16), np.zeros(0, np.int64)
    if case.policy.weighs:
        assert case.trace.gate_weights is not None, "the policy needs a trace with them"
        weights, of_bits = np.ascontiguousarray(case.trace.gate_weights).view(np.uint16), units()
    weights.flags.writeable = False
    return weights, of_bits
