"""The program of cases whose activations are decided, priced and counted in compiled code at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts, OfPasses, counted_names, together
from moesim.engine.fates import Fates
from moesim.engine.folded import Folded
from moesim.engine.layer_work import LayerWork
from moesim.engine.marks import MARKED
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.activation_index import counts_choices
from moesim.engine.replay.collectives import Collectives
from moesim.engine.replay.flat import Played, Priced, priced_of
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.activations import ACTIVATED, HITS
from moesim.engine.replay.quick.made import Deciding, Loading, Made, Maker
from moesim.engine.replay.quick.one_launch import ALIKE, ALL, chosen_by
from moesim.engine.replay.quick.one_row import OneRow
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.routing import Routing
from moesim.engine.tally import Keep
from moesim.gating.dynamic import Dynamic
from moesim.memory.misses.load import Load


class Marked(NamedTuple):
    """How far a program has come: what has been made, priced and counted."""

    made: Any
    pricing: Any
    collectives: Any
    provenance: Any
    counted: Any


def has_one_row(case: Case) -> bool:
    """Whether passes of ``case``, which decides alone, are a row each that ``OneRow`` takes."""
    return choices_of_row(case) == ALL


def choices_of_row(case: Case) -> int:
    """What the rows of ``case``, which decides alone, choose, where passes have one each that
    ``OneRow`` takes; else ALIKE.
    """
    return chosen_by(case) if case.serving is None and OneRow.takes(case) else ALIKE


def loads_from_host(case: Case) -> bool:
    """Whether every miss is loaded, from host memory that has all."""
    return type(case.miss) is Load and case.host_cache is None


def decides_alone(case: Case) -> bool:
    """Whether all that ``case`` decides, but for what misses come to, follows from its tokens'
    choices and its slots.
    """
    return (
        not case.exchanges
        and not case.tells_tokens
        and not (case.policy.restarts and case.serving is not None)
        and type(case.gating) is Dynamic
        and case.kernels != "block_sparse"
        and case.order != "least_makespan"
        and counts_choices(case)
        and case.rebalance is None
        and not (case.schedule.grows and case.may_bypass)
        and not case.ways(0, case.schedule.passes).any()
    )


class QuickProgram:
    """The chunks of a case, as ``program.Program`` makes them, in the clock's arrays.

    ``make`` makes its runs; ``log``: what earlier runs found and decided, and this one leaves.
    """

    def __init__(
        self,
        case: Case,
        keep: Keep,
        make: type[Loading] = Deciding,
        *,
        log: DecisionLog | None = None,
    ) -> None:
        self.case, self.make = case, make
        self.routing = Routing(case)
        self.provenance = Provenance(self.case.prices)
        self.pricing = Pricing(self.case, self.routing.logical, self.provenance)
        self.reuse = Reuse(case, self.routing, log, by_layer=keep.by_layer)
        self.finder = self.reuse.finder
        self.collectives = Collectives(self.case, self.finder, self.provenance)
        self.maker = self._maker(log)
        self.rows_apart = self.maker.prices_rows(self.pricing)
        self.counted = [Folded(keep.cuts) for _ in ("executed", *self.maker.counted)]
        self.apart = OfPasses() if keep.cuts is not None else None

    def _maker(self, log: DecisionLog | None) -> Maker:
        del log
        return self.make(self.reuse, self.make.launches_of(self.case), self.provenance)

    rebalanced = (0, 0, 0)
    """No expert gets another place."""

    @property
    def masks(self) -> NDArray[np.uint64] | None:
        """As ``Maker`` says."""
        return self.maker.masks

    @property
    def fates(self) -> Fates | None:
        """What became of choices, where that is told."""
        return self.maker.fates()

    @property
    def _forms(self) -> tuple[str, ...]:
        """What misses in each form are counted as."""
        return tuple(form.counted for form in self.case.forms)

    def _counted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those ``names`` that are counted."""
        return tuple(name for name in names if name in self.maker.counted)

    def chunks(self) -> Iterator[tuple[int, Played]]:
        """First pass, and what the clock plays."""
        for first, last in self.reuse.pieces():
            yield from self.between(first, last)
        self.end()

    def between(self, first: int, last: int) -> Iterator[tuple[int, Played]]:
        """Those of passes first:last, the next ones, a piece."""
        choices = None if self.rows_apart else self.finder.choices(first, last)
        none = np.broadcast_to(np.int64(0), (last - first, self.finder.layers))
        terms = self.pricing.terms(first, last, choices, none)
        priced = priced_of(self.case, terms, self.case.schedule.phase[first:last])
        for low, high in self.maker.runs_of(first, last):
            made = self.maker.made(low, high)
            if made.told is None:
                self._count(made.executed, made.counts)
            yield low, self._played(low, made, priced.between(low - first, high - first))
            if made.told is not None:
                made.told()
                self._count(made.executed, made.counts)

    def end(self) -> None:
        """All passes have come."""
        self._settle()
        self.maker.end()

    def mark(self) -> Marked:
        """What ``back`` goes back to."""
        return Marked(
            self.maker.mark(), self.pricing.mark(), self.collectives.known.uses(),
            self.provenance.mark(), [one.mark() for one in self.counted],
        )  # fmt: skip

    def back(self, marked: Marked) -> None:
        """What came since then is not played, and comes again."""
        self.maker.back(marked.made)
        self.pricing.back(marked.pricing)
        self.collectives.known.used_as(marked.collectives)
        self.provenance.back(marked.provenance)
        for one, mark in zip(self.counted, marked.counted, strict=True):
            one.back(mark)

    def _played(self, first: int, made: Made, priced: Priced) -> Played:
        """The passes of ``priced``, from ``first`` on, that are ``made``."""
        last = first + len(priced.head)
        for category, ns in made.charged:
            priced.charges[:, 0, category] += ns
        passed = priced.passes(
            self.case.schedule.phase[first:last],
            *self.collectives.prices(first, last, made.busiest),
        )
        return Played(passed, made.works, made.most_launches, priced.charges)

    def _count(self, executed: Ints, counts: Ints) -> None:
        """Count the rows ``executed`` int64[passes, layers, gpus], and ``decided.counts``."""
        if self.apart is not None:
            self.apart.add(executed, self._copied(counts))
            executed = executed if counts.shape[2] > 1 else together(executed)
        for folded, values in zip(self.counted, (executed, *counts), strict=True):
            folded.add(values)

    def _copied(self, counts: Ints) -> NDArray[np.bool_]:
        """Whether experts were copied, bool[passes, layers, gpus]."""
        copied: NDArray[np.bool_] = counts[ACTIVATED] > counts[HITS]
        counted = self.maker.counted
        if self._counted(self._forms):
            first = counted.index(self._forms[0])
            of_forms = counts[first : first + len(self._forms)][self.case.flags.in_slot]
            copied = of_forms.any(axis=0)
        if "prefetched" in counted:
            copied |= counts[counted.index("prefetched")] > 0
        return copied

    def _settle(self) -> None:
        """Count what all prices rest on."""
        self.pricing.settle()
        self.collectives.settle()
        work = LayerWork(self.case, self.routing, self.provenance)
        self.maker.settle(work)
        work.settle()

    def total(self) -> Counts:
        """The counts of the whole run; what cannot be is 0."""
        rows, *columns = (folded.values for folded in self.counted)
        of_column = dict(zip(self.maker.counted, columns, strict=True))
        marked, missed = (
            np.stack([of_column.pop(name) for name in names], axis=-1) if names else None
            for names in (self._counted(MARKED), self._counted(self._forms))
        )
        misses = of_column["activations"] - of_column["hits"]
        none = np.broadcast_to(np.int64(0), misses.shape)
        kept, lost = rows, np.broadcast_to(np.int64(0), (*none.shape[:2], 2))
        if "skipped_rows" in of_column:
            kept = rows if rows.shape == none.shape else together(rows)
            kept = kept + of_column["skipped_rows"]
            weight = of_column.pop("weight").sum(axis=2)
            lost = np.stack((np.zeros_like(weight), weight), axis=-1)
        counted = dict.fromkeys(counted_names(), none) | of_column
        counted |= {"rows": rows, "kept_rows": kept, "dropped_choices": none[:, :, 0]}
        counted["lost_weight"] = lost
        counted["missed"] = misses[..., None] if missed is None else missed
        for name in ("prefetched_as", "prefetches_used_as"):
            counted[name] = counted["missed"][..., :0]
        apart = None if self.apart is None else self.apart.total()
        return Counts(**counted, forms=self.case.forms, apart=apart, marked=marked)
