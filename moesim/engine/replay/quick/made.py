"""What a run of passes comes to, as its clock takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.fates import Fates
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.clock.one_gpu import Launched, OneLaunch, play_loaded
from moesim.engine.replay.clock.records import Works
from moesim.engine.replay.flat import NO_READS, NO_ROWS, NO_TABLE, NONE, NONE_STREAMED
from moesim.engine.replay.quick.activations import COUNTED_HERE, ResidencyPlan
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.residency_plan import Decider
from moesim.engine.replay.quick.reuse import Reuse


class Made(NamedTuple):
    """A run of passes: rows ``executed`` int64[passes, layers, gpus], ``counts`` as
    ``ResidencyPlan`` has them, the ``works`` and the most launches of one of them in a pass; the
    most rows that a GPU sends to others, or gets from them, int64[MoE layers, passes], where that
    is known.
    Where the clock decides what is counted, it is ``told`` when it has played. ``charged``: what
    passes take of categories beside their terms, int64[passes].
    """

    executed: Ints
    counts: Ints
    works: Works | Launched
    most_launches: int
    busiest: Ints | None = None
    told: Callable[[], None] | None = None
    charged: Sequence[tuple[int, Ints]] = ()


class Maker(Protocol):
    """Makes the runs of a case; ``counted``: what it counts."""

    counted: tuple[str, ...]

    @property
    def masks(self) -> NDArray[np.uint64] | None:
        """What each row of the trace chooses, uint64[rows, words], a bit for every expert of every
        layer, where that is known and all of it is needed alike.
        """

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs of passes first:last, a piece."""

    def made(self, first: int, last: int) -> Made:
        """The run of passes first:last."""

    def prices_rows(self, pricing: Pricing) -> bool:
        """Whether it makes the times of what knows how many rows are permuted, by its prices, so
        that the terms of passes are without.
        """

    def mark(self) -> Any:
        """What ``back`` goes back to."""

    def back(self, mark: Any) -> None:
        """What was made since then comes again."""

    def end(self) -> None:
        """All passes have come."""

    def settle(self, work: LayerWork) -> None:
        """Count what all prices rest on."""

    def fates(self) -> Fates | None:
        """What became of all choices, where that is told."""


def works_of(launches: tuple[Ints, Ints, Ints], copies: tuple[Ints, Ints, Ints, Ints]) -> Works:
    """Works of launches and copies alone, from the base to the prices, or what copies wait for."""
    base, steps, kernel_ns = launches
    rest = NONE, NONE, NONE_STREAMED, NO_ROWS, NO_ROWS, NO_READS
    return Works(base, steps, kernel_ns, NONE, NONE, *copies, *rest)


def launched(kernel_ns: Ints, misses: NDArray[np.uint16], copies: int) -> Launched:
    """Works of a launch in each layer that takes ``kernel_ns`` int64[MoE layers], behind copies of
    what it ``misses`` uint16[passes, MoE layers], all ``copies``.
    """
    none, tables = misses[:0], [NO_TABLE] * 6
    works = OneLaunch(misses, none, none, tables[0], kernel_ns[:, None], *tables[1:])
    return Launched(play_loaded, works, copies)


class Loading(Maker):
    """What makes runs whose misses are copied has in common."""

    counted: tuple[str, ...] = COUNTED_HERE

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        self.reuse, self.launches, self.provenance = reuse, launches, provenance
        self.copies = np.zeros(reuse.finder.layers, np.int64)

    @classmethod
    def launches_of(cls, case: Case) -> LaunchPrices:
        """The prices of launches of ``case`` that it may make."""
        return LaunchPrices(case)

    @property
    def masks(self) -> NDArray[np.uint64] | None:
        """As ``Maker`` says."""
        return None

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says."""
        return self.reuse.runs_of(first, last)

    def prices_rows(self, pricing: Pricing) -> bool:
        """As ``Maker`` says: it does not."""
        del pricing
        return False

    def laid(self, executed: Ints, plan: ResidencyPlan) -> Made:
        """What is ``decided``, priced."""
        step_copies = plan.step_copies
        self.copies += step_copies[:, -1].reshape(len(self.copies), -1).sum(axis=1)
        kernel_ns = self.launches.price(self.provenance, plan)
        works = works_of(
            (plan.launch_base, plan.step_launches, kernel_ns),
            (plan.copy_base, step_copies, plan.copy_launch, plan.copy_wait),
        )
        return Made(executed, plan.counts, works, int(plan.most_launches[0]))

    def fates(self) -> Fates | None:
        """As ``Maker`` says: nothing is lost."""
        return None

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        self.launches.settle(self.provenance)
        for layer, number in enumerate(self.copies.tolist()):
            work.count_copies(layer, [number])


class Deciding(Loading):
    """Finds, decides and prices what passes need."""

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        self.decider = Decider(reuse, launches.kinds, launches.works)
        self.counted = self.decider.counted
        self._found: dict[tuple[int, int], Needed] = {}
        """What was found since a mark, of passes first:last: some are played again."""
        self._marked = False

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        found = self._found.get((first, last))
        if found is None:
            found = self.reuse.active_experts(first, last)
        if self._marked:
            self._found[first, last] = found
        return self.laid(found.executed, self.decider.decide(first, found))

    def mark(self) -> Any:
        """As ``Maker`` says."""
        self._marked = True
        self._found.clear()
        return self.launches.mark(self.provenance), self.decider.mark(), self.copies.copy()

    def back(self, mark: Any) -> None:
        """As ``Maker`` says; what was found stays known."""
        launches, plan, self.copies = mark
        self.launches.back(launches)
        self.decider.back(plan)

    def end(self) -> None:
        """As ``Maker`` says."""
        self.decider.end()
        self.reuse.end()
