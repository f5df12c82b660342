"""The clocks of a run's GPUs, and what they record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Beside
from moesim.engine.folded import Folded
from moesim.engine.pricing.terms import categories_of
from moesim.engine.replay.clock.laid import is_laid, play_laid
from moesim.engine.replay.clock.layer_rows import fill_rows
from moesim.engine.replay.clock.loop import new_gpus, play_decided
from moesim.engine.replay.clock.records import (
    ATTENTION,
    HOST,
    MOVED,
    MOVING,
    Filled,
    Fixed,
    Gpus,
    Passes,
    Works,
)
from moesim.engine.replay.flat import Played, fixed_of
from moesim.hardware.charge import REBALANCING
from moesim.hardware.described.links import Links
from moesim.hardware.described.software import Execution
from moesim.workload.growing import Growing

if TYPE_CHECKING:
    from moesim.engine.replay.shared_links import SharedLinks


class Marked(NamedTuple):
    """How far clocks have come: passes, their ``gpus``, parts of charges, rows of layers,
    copies, and what is on shared links.
    """

    passes: int
    gpus: Gpus
    charges: int
    layers: int
    copies: int
    links: Any


class Clock:
    """The GPUs' clocks, carried from chunk to chunk; what they recorded, by chunk."""

    def __init__(self, case: Case, *, layers: bool, cuts: Ints | None) -> None:
        self.case, self.keep_layers = case, layers
        self._fixed: dict[Execution, Fixed] = {}
        rooms = 0 if case.host_cache is None else case.host_cache.rooms
        self.gpus = new_gpus(case.gpus, len(case.model.moe_layers), case.nodes, rooms)
        self.links = None if case.links is None else _on_links(case, case.links)
        self.categories, self._moe = categories_of(case), case.model.moe_layers
        shape = (case.gpus,)
        self._starts, self._ends = Growing(shape=shape), Growing(shape=shape)
        self.charges = Folded(cuts)
        """What passes were charged, int64[passes, gpus, categories]."""
        self.layers = Growing(shape=(7,))
        """A row for each (pass, MoE layer, GPU) that ran, where they are kept."""
        self.copies = 0

    def fixed_at(self, first: int) -> Fixed:
        """What is the same in pass ``first`` and in all that are played with it."""
        (execution,) = self.case.executions(first, first + 1)
        return self.fixed(execution)

    def fixed(self, execution: Execution) -> Fixed:
        """What is the same in passes that are launched so."""
        if execution not in self._fixed:
            fixed = fixed_of(self.case.launched_as(execution))
            known = [one for one in self._fixed.values() if _is_same(one, fixed)]
            self._fixed[execution] = known[0] if known else fixed
        return self._fixed[execution]

    @property
    def starts(self) -> Ints:
        """When each pass began, int64[passes, gpus], be it to wait for the host; before it did, the
        instant it waits for.
        """
        return self._starts.values

    @property
    def ends(self) -> Ints:
        """When each pass ended, int64[passes, gpus]."""
        return self._ends.values

    @property
    def ended(self) -> Ints:
        """When each GPU ended what was played last, int64[gpus]."""
        ended: Ints = self.gpus.time.copy()
        return ended

    def play(self, one: Played, first: int) -> None:
        """Play the next passes, from ``first`` on."""
        fixed = self.fixed_at(first)
        if one.beside is not None:
            self._know_passes()
            begun = np.maximum(self.gpus.time, self.starts[first])
            one = self.with_moved(one, one.beside, begun)

        def play_into(gpus: Gpus, filled: Filled) -> None:
            if self.links is not None:
                self.links.play(fixed, one, gpus, filled)
            elif isinstance(one.works, Works) and is_laid(self.case, one.works):
                play_laid(fixed, one.passes, one.works, gpus, filled)
            elif isinstance(one.works, Works):
                play_decided(fixed, one.passes, one.works, gpus, filled, 0, 0, 0)
            else:
                one.works.clock(fixed, one.passes, one.works.works, gpus, filled)

        self.fill(first, one.passes, one.charges, one.most_launches, play_into)
        self.charge_scheduler(first, one.charges)
        self.copies += one.works.copies

    def with_moved(self, one: Played, beside: Beside, begun: Ints) -> Played:
        """``one``, a lone pass that GPUs have ``begun`` then, with what moves beside it."""
        category = self.categories.index(REBALANCING)
        last = int(begun.max())
        moved, due = last + beside.ns, begun + beside.until
        self.gpus.moved[MOVED], self.gpus.moved[MOVING] = moved, category
        waits = np.maximum(moved - np.maximum(due, last), 0)
        return one.waiting({ATTENTION: np.maximum(last - due, 0), category: waits})

    def fill(
        self,
        first: int,
        passes: Passes,
        charges: Ints,
        launches: int,
        play_into: Callable[[Gpus, Filled], None],
    ) -> None:
        """Play ``passes`` from ``first`` on, in which a work has at most so many ``launches``.
        ``charges`` int64[passes, gpus, categories] of their terms, to which the clock adds its own,
        but for what GPUs wait for the host that decides passes (``charge_scheduler``).
        """
        here, kept = slice(first, first + len(passes.runs)), len(passes.runs)
        self._know_passes()
        shape = (kept if self.keep_layers else 0, len(self.case.model.moe_layers), self.case.gpus)
        records = np.zeros((*shape, 4), np.int64)
        filled = Filled(self.starts[here], self.ends[here], charges, records)
        play_into(self.gpus._replace(launch_end=np.zeros(launches, np.int64)), filled)
        self.charges.add(charges)
        if self.keep_layers:
            runs = np.ascontiguousarray(passes.runs[:, [one.index for one in self._moe]])
            rows = self.layers.more(int(runs.sum()) * self.case.gpus)
            fill_rows(records, runs, first, rows)

    def charge_scheduler(self, first: int, charges: Ints) -> None:
        """Let passes from ``first`` on begin where GPUs wait for the host to decide them, and add
        that wait to their ``charges``.
        """
        if self.case.schedule.host_ns is None:
            return
        last = first + len(charges)
        starts, begins = self.starts[first:last], self.case.schedule.begins(first, last)[:, None]
        free = np.zeros_like(starts)
        free[1:], free[:1] = self.ends[first : last - 1], self.ends[first - 1] if first else 0
        begun = np.maximum(free, begins)
        charges[:, :, HOST] += starts - begun
        starts[:] = begun

    def mark(self) -> Marked:
        """What ``back`` goes back to."""
        gpus = Gpus(*(one.copy() for one in self.gpus))
        links = None if self.links is None else self.links.mark()
        charges, layers = self.charges.mark(), len(self.layers.values)
        return Marked(len(self.starts), gpus, charges, layers, self.copies, links)

    def back(self, marked: Marked) -> None:
        """What was played since then is not; where it was not folded."""
        passes, self.gpus, charges, layers, self.copies, links = marked
        if self.links is not None:
            self.links.back(links)
        self._starts.cut(passes)
        self._ends.cut(passes)
        self.charges.back(charges)
        self.layers.cut(layers)

    def _know_passes(self) -> None:
        """Make room for all passes that are known."""
        known, schedule = len(self.starts), self.case.schedule
        if new := schedule.passes - known:
            earliest = schedule.earliest_starts(known, schedule.passes)[:, None]
            self._starts.extend(np.broadcast_to(earliest, (new, self.case.gpus)))
            self._ends.extend(np.zeros((new, self.case.gpus), np.int64))
            if self.keep_layers:
                self.layers.reserve(new * len(self._moe) * self.case.gpus)


def _on_links(case: Case, links: Links) -> SharedLinks:
    from moesim.engine.replay.shared_links import SharedLinks  # few runs need it

    return SharedLinks(case, links)


def _is_same(one: Fixed, other: Fixed) -> bool:
    return all(map(np.array_equal, one, other))
