"""Passes of a row each on one GPU under LRU whose misses are not all loaded, or whose rows do not
choose as many experts each: as experts have a row each, what is to do for a layer, and which of its
misses are loaded, follows from these numbers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.layer_work import LayerWork
from moesim.engine.layout import Active
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched, OneLaunch, play_fewer, play_handled
from moesim.engine.replay.flat import NO_TABLE, NONE
from moesim.engine.replay.quick.activations import COUNTED_HERE
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_row import (
    OneRow,
    is_listed,
    room_for,
    rule_of,
)
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.sweeps import (
    HANDLE,
    LOADED,
    OTHERWISE,
    Stacks,
    Swept,
    sweep_fewer_of,
)
from moesim.memory.curves.recency import LANES
from moesim.memory.misses.base import Missing
from moesim.memory.misses.load import Load
from moesim.memory.slots.residency import loads_of
from moesim.memory.slots.split import COPY, DOWN, HOST, UP, divide
from moesim.runtime.compiled import njit, types

MOST = 63
"""Choices of a row at most, less one: of which are loaded, a bit each is told."""


def is_handled(case: Case) -> bool:
    """Whether ``HandledRows`` takes ``case``, which has one row: a miss is loaded, or else what the
    other form of its table says, if there is one, which takes no slot, where each launch and each
    expert beside the GPU is priced by its number, and not by where it lies. Where misses are left
    out, none is loaded.
    """
    forms = case.forms
    return (
        case.host_cache is None
        and case.unit_groups is None
        and case.offloaded
        and len(forms) <= OTHERWISE - LOADED + 1
        and case.trace.top_k < MOST
        and not any(form.source == "slot" for form in forms[1:])
        and not (case.skips and case.miss.loads)
        and not any(layer.on_host for layer in case.model.moe_layers)
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

    becomes: ClassVar[int] = HANDLE
    clock: ClassVar[Any] = staticmethod(play_handled)

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        case, layers = reuse.case, reuse.finder.layers
        self.counted = (*COUNTED_HERE, *(form.counted for form in case.forms))
        numbers = (1 + self.top_k) ** (2 if self.fewer else 1)
        self.rule = rule_of(layers, numbers)
        tables = np.zeros((8, *self.rule.loads.shape), np.int64)
        self.times, self._on_gpu, self._read, self._hosted, *times_ns = tables
        self._kernel_ns, self._read_ns, self._hosted_ns, self._up_ns = times_ns
        work = LayerWork(case, reuse.routing, Provenance(case.prices))
        kinds = launches.kinds * (case.miss.compares or case.miss.splits)
        for layer in np.unique(kinds, return_index=True)[1].tolist():
            self._tell(work, layer, kinds == kinds[layer])
        self._price(work)

    def _tell(self, work: LayerWork, layer: int, alike: NDArray[np.bool_]) -> None:
        """What becomes of each number of misses of a MoE layer, and of all that are ``alike``."""
        case, flags, most = self.reuse.case, self.reuse.case.flags, self.top_k
        one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
        offer = np.zeros((HOST + 1, 1), np.int64)
        if case.miss.compares:
            offer = work.offers((layer, 0), Active(np.array([0, 1]), none, one, one, NONE))
        for misses in range(most + 1):
            forms = np.array(_forms_of(case, offer, work.moved(most), misses), np.int64)
            loaded, hosted = flags.in_slot[forms], flags.on_host[forms].sum()
            chosen = np.arange(misses if self.fewer else most, most + 1)
            at = np.ix_(alike, (most - chosen) * (1 + most) + misses)
            self.rule.loaded[at] = loaded @ (1 << np.arange(misses))
            self.rule.loads[at] = loaded.sum()
            self._hosted[at], self._read[at] = hosted, flags.over_link[forms].sum()
            self._on_gpu[at] = chosen - hosted - flags.nowhere[forms].sum()

    def _price(self, work: LayerWork) -> None:
        """What that takes."""
        moved = work.moved(self.top_k)
        self._kernel_ns[:] = self.launches.single_row_ns[self.launches.kinds[:, None], self._on_gpu]
        for layer, (read, hosted) in enumerate(zip(self._read, self._hosted, strict=True)):
            if read.any():
                self._read_ns[layer] = work.beyond(layer, read, self._kernel_ns[layer])
            if hosted.any():
                hosted_ns = moved[DOWN, hosted] + hosted * work.beside(layer)
                self._hosted_ns[layer] = np.where(hosted > 0, hosted_ns, 0)
                self._up_ns[layer] = np.where(hosted > 0, moved[UP, hosted], 0)

    def _room(self, passes: int, counts: Ints) -> Swept:
        """See ``OneRow``."""
        swept = super()._room(passes, counts)
        return swept._replace(loaded=np.zeros_like(swept.misses))

    def _launched(self, swept: Swept) -> Launched:
        """See ``OneRow``."""
        works = OneLaunch(
            swept.misses, swept.loaded, swept.loaded[:0], np.minimum(self._on_gpu, 1),
            self._kernel_ns, self._read_ns, self._hosted_ns, self._up_ns, NO_TABLE, NO_TABLE,
        )  # fmt: skip
        loaded = (self.times * self.rule.loads).sum(axis=1)
        copies, self.copies = int((loaded - self.copies).sum()), loaded
        return Launched(self.clock, works, copies)

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        kinds = np.broadcast_to(self.launches.kinds[:, None], self.times.shape)
        np.add.at(self.launches.uses, (kinds, self._on_gpu), self.times)
        hosted = (self.times * self._hosted).sum(axis=1)
        for layer in np.flatnonzero(hosted).tolist():
            work.beside(layer, int(hosted[layer]))
        for layer, number in np.argwhere(self.times * self._read).tolist():
            read, kernel_ns = (of[layer, [number]] for of in (self._read, self._kernel_ns))
            work.beyond(layer, read, kernel_ns, int(self.times[layer, number]))
        super().settle(work)


class FewerRows(HandledRows):
    """Makes the runs of a case that ``is_handled``, of whose rows some choose fewer experts."""

    fewer: ClassVar[bool] = True


@njit(types.void(types.uint16[:, ::1], types.int64[:, ::1], types.int64[::1]), cache=True)
def _sum_by_number(numbers: Any, ns: Any, sums: Any) -> None:
    """Fill in the ``sums`` int64[passes] of what layers take by their ``numbers`` [passes, MoE
    layers], ``ns`` int64[MoE layers, numbers].
    """
    for step in range(len(numbers)):
        total = 0
        for layer in range(len(ns)):
            total += ns[layer, numbers[step, layer]]
        sums[step] = total


class FewerLoaded(FewerRows):
    """The same, where all misses are loaded, and what operations take goes by rows alone."""

    clock: ClassVar[Any] = staticmethod(play_fewer)

    @staticmethod
    def loads_all(case: Case) -> bool:
        """Whether it makes those of ``case``, whose rows choose fewer experts."""
        return (
            is_handled(case)
            and type(case.miss) is Load
            and len(case.forms) == 1
            and not is_listed(case)
        )

    @classmethod
    def sweep_of(cls, case: Case) -> Any:
        """See ``OneRow``."""
        return sweep_fewer_of(case.trace.top_k, room_for(case.trace.top_k))

    def _as_they_are(self) -> Stacks:
        """See ``OneRow``: with the expert behind all, in a line of its own."""
        held = super()._as_they_are()
        home, lines = held.home + np.uint16(LANES), held.lines
        before = np.zeros((len(lines), 1, LANES), np.uint16)
        found: Stacks = held._replace(
            home=np.concatenate((home, np.zeros_like(home[:, :1])), axis=1),
            lines=np.concatenate((before, lines), axis=1),
        )
        return found

    def prices_rows(self, pricing: Pricing) -> bool:
        """As ``Maker`` says: where that goes by rows alone."""
        self._by_rows, most = pricing.by_rows(self.top_k), self.top_k
        self._before_ns, self._behind_ns = np.zeros((2, *self.times.shape), np.int64)
        self._used, self._charged = np.zeros_like(self.times), list[tuple[int, Ints]]()
        if self._by_rows is None:
            return False
        rows = np.arange(most, -1, -1).repeat(1 + most)
        self._before_ns, self._behind_ns = (
            np.ascontiguousarray(ns[:, rows])
            for ns in (self._by_rows.before_ns, self._by_rows.behind_ns)
        )
        self._charged = [
            (pricing.categories.index(category), np.ascontiguousarray(ns[:, rows]))
            for category, ns in self._by_rows.charged.items()
        ]
        return True

    def _launched(self, swept: Swept) -> Launched:
        """See ``OneRow``."""
        self._numbers, made = swept.misses, super()._launched(swept)
        works = made.works._replace(before_ns=self._before_ns, behind_ns=self._behind_ns)
        return made._replace(works=works)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        made, charged = super().made(first, last), list[tuple[int, Ints]]()
        for category, ns in self._charged:
            charged.append((category, np.empty(last - first, np.int64)))
            _sum_by_number(self._numbers, ns, charged[-1][1])
        if self._by_rows is not None:
            times = (self.times - self._used).reshape(len(self.times), 1 + self.top_k, -1)
            self._by_rows.use(times.sum(axis=2)[:, ::-1])
            self._used[:] = self.times
        return made._replace(charged=charged)
