"""The outcomes of replicas as one, of all their GPUs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from moesim.engine.case import Case, Floats, Ints
from moesim.engine.counts import Apart, Counts, Loads, counted_names
from moesim.engine.outcome import Outcome, Span
from moesim.workload.schedule import Schedule
from moesim.workload.served import Served

WITHOUT_GPUS = ("dropped_choices", "lost_weight")


class Merging:
    """``outcomes`` of replicas of ``case``, whose passes were made in ``turns``: those of the whole
    are in the order of their ends. GPUs of other replicas have no time in a pass.
    """

    def __init__(
        self, case: Case, outcomes: list[Outcome | None], turns: list[tuple[int, int]]
    ) -> None:
        self.case = case
        self.those = {number: one for number, one in enumerate(outcomes) if one is not None}
        self.gpus = case.gpus * len(outcomes)
        ends = [int(self.those[number].ends[step].max()) for number, step in turns]
        self.turns = [turns[place] for place in np.argsort(ends, kind="stable")]
        self.number, self.step = np.array(self.turns).T

    def of(self, get: Callable[[Outcome], Any], axis: int | None = None) -> Any:
        """An array [passes, ...] by ``get`` of each; ``axis``: that of GPUs, None: it has none."""
        parts = {number: get(one) for number, one in self.those.items()}
        shape = list(next(iter(parts.values())).shape)
        shape[0] = len(self.turns)
        if axis is not None:
            shape[axis] = self.gpus
        whole = np.zeros(shape, next(iter(parts.values())).dtype)
        for number, part in parts.items():
            mine = self.number == number
            if axis is None:
                whole[mine] = part[self.step[mine]]
            else:
                held = np.moveaxis(whole, axis, 0)
                first = number * self.case.gpus
                held[first : first + self.case.gpus, mine] = np.moveaxis(
                    part[self.step[mine]], axis, 0
                )
        return whole

    def outcome(self) -> Outcome:
        """All of them."""
        those = list(self.those.values())
        begins = self.of(lambda one: one.starts.min(axis=1))[:, None]
        theirs = self.number[:, None] == np.arange(self.gpus) // self.case.gpus
        starts, ends = self.of(lambda one: one.starts, 1), self.of(lambda one: one.ends, 1)
        return replace(
            those[0],
            counts=self._counts(),
            starts=np.where(theirs, starts, begins),
            ends=np.where(theirs, ends, begins),
            charges=self.of(lambda one: one.charges, 1),
            layers=self._layers(),
            schedule=self._schedule(),
            spans=self._spans(),
            held=[
                (gpu + number * self.case.gpus, time, experts)
                for number, one in self.those.items()
                for gpu, time, experts in one.held
            ],
            seconds=sum(one.seconds for one in those),
            copies=sum(one.copies for one in those),
            provenance=self._provenance(),
            rebalanced=tuple(map(sum, zip(*(one.rebalanced for one in those), strict=True))),  # type: ignore[arg-type]
        )

    def _counts(self) -> Counts:
        found = {
            name: self.of(
                lambda one, name=name: getattr(one.counts, name),  # type: ignore[misc]
                None if name in WITHOUT_GPUS else 2,
            )
            for name in counted_names()
        }
        counts = Counts(**found, forms=next(iter(self.those.values())).counts.forms)
        loads = Loads.of(counts.rows)._replace(gpus=self.case.gpus)  # of the replica's
        marked = None
        if all(one.counts.marked is not None for one in self.those.values()):
            marked = self.of(lambda one: one.counts.marked, 2)
        return replace(counts, apart=Apart(loads, counts.copies > 0), marked=marked)

    def _layers(self) -> Ints:
        whole = [np.zeros((0, 7), np.int64)]
        for number, one in self.those.items():
            rows, place = one.layers.copy(), np.flatnonzero(self.number == number)
            rows[:, 0] = place[np.argsort(self.step[place])][rows[:, 0]]
            rows[:, 2] += number * self.case.gpus
            whole.append(rows)
        table = np.concatenate(whole)
        return table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]

    def _spans(self) -> list[Span]:
        """Those of all replicas, by their begin."""
        places = {turn: place for place, turn in enumerate(self.turns)}
        spans = [
            span._replace(gpu=span.gpu + number * self.case.gpus, step=places[number, span.step])
            for number, one in self.those.items()
            for span in one.spans
        ]
        return sorted(spans, key=lambda span: span.start_ns)

    def _schedule(self) -> Schedule:
        """All passes, of all GPUs."""
        parts = [one.schedule for one in self.those.values()]
        base = np.cumsum([0, *(len(part.rows) for part in parts)])
        first = dict(zip(self.those, base[:-1], strict=True))
        lows = self.of(lambda one: one.schedule.offsets[:-1])
        sizes = self.of(lambda one: np.diff(one.schedule.offsets))
        lows = lows + np.array([first[number] for number in self.number.tolist()])
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        tokens = np.arange(offsets[-1]) + np.repeat(lows - offsets[:-1], sizes)

        def gather(get: Callable[[Schedule], Any]) -> Any:
            return np.concatenate([get(part) for part in parts])[tokens]

        shifts = np.repeat(self.number * self.case.gpus, sizes)
        served = [gather(lambda part, k=k: part.served[k]) for k in range(3)]  # type: ignore[misc]
        served[2] = served[2] & ~np.isin(np.repeat(self.number, sizes), self._silent)
        return Schedule(
            offsets,
            gather(lambda part: part.rows),
            gather(lambda part: part.gpu) + shifts,
            gather(lambda part: part.request),
            self.of(lambda one: one.schedule.phase),
            self.of(lambda one: one.schedule.not_before_ns),
            None if parts[0].kept is None else gather(lambda part: part.kept),
            Served(*served),
            self.of(lambda one: one.schedule.host_ns),
        )

    @property
    def _silent(self) -> tuple[int, ...]:
        """Replicas whose tokens no client gets."""
        serving = self.case.serving
        after = None if serving is None else serving.after_all
        return () if after is None else after.silent

    def _provenance(self) -> dict[tuple[str, str], Floats]:
        found: dict[tuple[str, str], Any] = defaultdict(float)
        for one in self.those.values():
            for key, nanoseconds in one.provenance.items():
                found[key] = found[key] + nanoseconds
        return dict(found)


def merged(
    case: Case, outcomes: list[Outcome | None], turns: list[tuple[int, int]]
) -> tuple[Case, Outcome]:
    """One case of all GPUs of the replicas, and its outcome."""
    merging = Merging(case, outcomes, turns)
    assert case.serving is not None, "requests are served"
    outcome, count = merging.outcome(), len(outcomes)
    serving = case.serving.in_turns(merging.turns)
    whole = replace(case, gpus=merging.gpus, nodes=count * case.nodes, serving=serving)
    return replace(whole, schedule=outcome.schedule), outcome
