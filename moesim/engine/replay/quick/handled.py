"""Passes of a row each on one GPU under LRU whose misses are not all loaded: as experts have a row
each, what is to do for a layer, and which of its misses are loaded, follows from their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts
from moesim.engine.layer_work import LayerWork
from moesim.engine.layout import Active
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Handled
from moesim.engine.replay.flat import NONE
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.activations import COUNTED_HERE
from moesim.engine.replay.quick.made import Made, Maker
from moesim.engine.replay.quick.one_row import OneRow, room_for
from moesim.engine.replay.quick.ones import OnesLaunches
from moesim.engine.replay.quick.program import QuickProgram, decides_alone, has_one_row
from moesim.engine.replay.quick.shared import Shared
from moesim.engine.replay.spans import IDS
from moesim.memory.curves.recency import LANES, move_up
from moesim.memory.misses.base import Missing
from moesim.memory.residency import loads_of
from moesim.memory.split import COPY, HOST, divide
from moesim.runtime.compiled import record, specialised, types

LOADED, OTHERWISE = len(COUNTED_HERE), len(COUNTED_HERE) + 1
"""Where misses are counted that are loaded, and those that are not."""


class Rule(NamedTuple):
    """By MoE layer and how many experts miss, which of them are ``loaded``, in ascending order,
    bool[MoE layers, 1 + k, k], and how many, ``loads`` int64[MoE layers, 1 + k].
    """

    loaded: Any
    loads: Any


class Filled(NamedTuple):
    """What is filled in: how many experts each layer ``misses`` and how many of them are
    ``loaded``, uint16[passes, MoE layers]; how many ``times`` so many missed, int64[MoE layers, 1 +
    k], is added to.
    """

    misses: Any
    loaded: Any
    times: Any


_LINE, _TABLE, _CUBE = types.uint16[::1], types.uint16[:, ::1], types.uint16[:, :, ::1]
_INTS = types.int64[:, ::1]
HANDLE_STEPS = types.void(
    IDS, types.int64[::1], _TABLE, _LINE, _CUBE, _CUBE,
    record(Rule, types.boolean[:, :, ::1], _INTS), record(Filled, _TABLE, _TABLE, _INTS),
)  # fmt: skip
"""The signature of what ``handle_steps_with`` makes."""


def handle_steps_with(room: int) -> Callable[..., None]:
    """As ``miss_steps_with``, where not all misses are loaded."""

    def handle_steps(
        ids: Any, rows: Any, home: Any, slots: Any, stacks: Any, scratch: Any, rule: Any, out: Any
    ) -> None:
        """As ``miss_steps``; ``scratch`` uint16[2, 2, room]."""
        _, layers, top_k = ids.shape
        chosen, needed = scratch[0], scratch[1]
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                missed, own, lines = 0, slots[layer], stacks[layer if len(stacks) > 1 else 0]
                for i in range(room):
                    if i < top_k:
                        expert = chosen[0, i] = home[layer, ids[row, layer, i]]
                        rank = chosen[1, i] = lines[expert // LANES, expert % LANES]
                        missed += rank >= own
                loads, number = rule.loads[layer, missed], 0
                out.misses[step, layer], out.loaded[step, layer] = missed, loads
                out.times[layer, missed] += 1
                for i in range(top_k):
                    expert, rank = chosen[0, i], chosen[1, i]
                    stays, place = rank < own or loads == missed, 0
                    if not stays and loads > 0:
                        for j in range(top_k):
                            place += chosen[1, j] >= own and chosen[0, j] < expert
                        stays = rule.loaded[layer, missed, place]
                    needed[0, number], needed[1, number] = expert, rank
                    number += stays
                for i in range(number, room):
                    needed[0, i] = needed[1, i] = 0
                move_up(lines, needed[0], needed[1], number, room)

    return handle_steps


@lru_cache
def _compiled(room: int) -> Any:
    return specialised(handle_steps_with, HANDLE_STEPS, constants=(room,), allocates=False)


def handle_steps_of(top_k: int) -> Any:
    """``handle_steps`` of rows that choose so many experts, compiled; kept on disk."""
    return _compiled(room_for(top_k))


def is_handled(case: Case) -> bool:
    """Whether ``HandledProgram`` takes ``case``: a miss is loaded, or else what the other form of
    its table says, where each launch and each expert beside the GPU is priced by its number.
    """
    forms, flags = case.forms, case.flags
    return (
        case.variants is None
        and case.host_cache is None
        and len(forms) > 1
        and len(forms) == OTHERWISE - LOADED + 1
        and not flags.nowhere.any()
        and not case.miss.copies_behind
        and not any(layer.on_host for layer in case.model.moe_layers)
        and decides_alone(case)
        and has_one_row(case)
    )


def _forms_of(case: Case, offer: Ints, moved: Ints, misses: int) -> list[int]:
    """The forms of so many misses of one row, in ascending order, of which each is ``offer``ed
    int64[OFFERED, 1]; ``moved`` as for ``divide``.
    """
    miss, flags = case.miss, case.flags
    planned = np.ones(misses, np.int64)
    if miss.splits:
        loads = loads_of(miss, len(case.local_experts(0)), case.bandwidths)
        places, offers = np.arange(misses), np.repeat(offer, misses, axis=1)
        divide(places, misses, offers, moved, loads, planned)
    copy_ns, kernel_ns, host_ns = (int(one) for one in offer[COPY : HOST + 1, 0])
    copied, hosted, made, forms = 0, 0, 0, list[int]()
    for plan in planned.tolist():
        of_miss = (copy_ns, kernel_ns, host_ns, miss.most_loads(), plan)
        form = int(miss.place(Missing(copied, hosted, made, *of_miss)))
        if flags.in_slot[form]:
            made, copied = made + 1, copied + copy_ns
        elif flags.on_host[form]:
            hosted += host_ns
        forms.append(form)
    return forms


class HandledRows(OneRow):
    """Makes the runs of a case that ``is_handled``."""

    def __init__(self, shared: Shared, launches: OnesLaunches, provenance: Provenance) -> None:
        super().__init__(shared, launches, provenance)
        case, layers, most = shared.case, shared.finder.layers, self.top_k + 1
        self.counted = (*COUNTED_HERE, *(form.counted for form in case.forms))
        self._handle_steps = handle_steps_of(self.top_k)
        self._room = np.zeros((2, *self._scratch.shape), np.uint16)
        self._times = np.zeros((layers, most), np.int64)
        self._on_gpu, self._read, self._hosted = np.zeros((3, layers, most), np.int64)
        self._rule = Rule(np.zeros((layers, most, self.top_k), np.bool_), np.zeros_like(self._read))
        work = LayerWork(case, shared.routing, Provenance(case.prices))
        self._kernel_ns, self._read_ns, self._hosted_ns = np.zeros((3, layers, most), np.int64)
        for layer in range(layers):
            self._tell(work, layer)

    def _tell(self, work: LayerWork, layer: int) -> None:
        """What follows from each number of misses of a MoE layer."""
        case, flags = self.shared.case, self.shared.case.flags
        one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
        offer = np.zeros((HOST + 1, 1), np.int64)
        if case.miss.compares:
            offer = work.offers((layer, 0), Active(np.array([0, 1]), none, one, one, NONE))
        moved = work.moved(self.top_k)
        prices = self.launches.ones_ns[self.launches.kinds[layer]]
        for misses in range(self.top_k + 1):
            forms = np.array(_forms_of(case, offer, moved, misses), np.int64)
            at = layer, misses
            self._rule.loaded[layer, misses, :misses] = flags.in_slot[forms]
            self._rule.loads[at] = flags.in_slot[forms].sum()
            self._hosted[at], self._read[at] = (
                flags.on_host[forms].sum(), flags.over_link[forms].sum(),
            )  # fmt: skip
            self._on_gpu[at] = self.top_k - self._hosted[at]
            self._kernel_ns[at] = prices[self._on_gpu[at]]
            if self._read[at]:
                given = int(self._read[at]), int(self._kernel_ns[at])
                self._read_ns[at] = work.beyond(layer, *given)
            if hosted := int(self._hosted[at]):
                self._hosted_ns[at] = moved[hosted] + hosted * work.beside(layer)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder = self.shared.finder
        ids, rows, _, _ = finder.tokens(first, last)
        misses, loaded = np.empty((2, last - first, finder.layers), np.uint16)
        given = self._home, self._slots, self._stacks, self._room
        self._handle_steps(ids, rows, *given, self._rule, Filled(misses, loaded, self._times))
        executed, counts = self._counted(misses, loaded, misses - loaded)
        launches = np.minimum(self._on_gpu, 1)
        works = Handled(misses, loaded, launches, self._kernel_ns, self._read_ns, self._hosted_ns)
        return Made(executed, counts, works, 1)

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        self.copies[:] = (self._times * self._rule.loads).sum(axis=1)
        for layer, misses in np.argwhere(self._times).tolist():
            at, times = (layer, misses), int(self._times[layer, misses])
            self.launches.ones[self.launches.kinds[layer], self._on_gpu[at]] += times
            if self._read[at]:
                work.beyond(layer, int(self._read[at]), int(self._kernel_ns[at]), times)
            if self._hosted[at]:
                work.beside(layer, int(self._hosted[at]) * times)
        super().settle(work)


class HandledProgram(QuickProgram):
    """``QuickProgram`` of a case that ``is_handled``."""

    def _maker(self, log: DecisionLog | None) -> Maker:
        """See ``QuickProgram``."""
        del log
        return HandledRows(self.shared, OnesLaunches(self.case), self.provenance)

    def _copied(self, counts: Ints) -> NDArray[np.bool_]:
        """See ``QuickProgram``."""
        copied: NDArray[np.bool_] = counts[LOADED] > 0
        return copied

    def total(self) -> Counts:
        """See ``QuickProgram``: what is counted last are misses by form."""
        counts = super().total()
        assert counts.marked is not None, "there are two forms"
        return replace(counts, missed=counts.marked, marked=None)
