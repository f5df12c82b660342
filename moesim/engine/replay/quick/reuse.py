"""What runs on the same requests and placement have in common, whatever their slots and prices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from weakref import ref

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.replay.activation_index import Finder, Needed
from moesim.engine.replay.log import DecisionLog, Parts
from moesim.engine.replay.quick.next_use import NextUse, Steps, look_back
from moesim.engine.routing import Routing

ACTIVATIONS = 1 << 17
"""Activations of all GPUs that are decided at a time: with fewer, what each run of passes takes
whatever it has counts for more than what fits in a core's cache.
"""
COUNTS = 4
"""Of a pass, layer and GPU, held at once: its choices and prices."""
TOKENS = 1 << 18
"""Tokens of passes that are priced at once."""


class Reuse:
    """Active experts and next uses of a case, from ``log`` where an earlier run left them there.

    ``by_layer``: counts are kept by MoE layer, else added up.
    """

    def __init__(
        self, case: Case, routing: Routing, log: DecisionLog | None, *, by_layer: bool
    ) -> None:
        self.case, self.routing, self.log = case, routing, log
        self.finder = Finder(case, routing, by_layer=by_layer)
        self.key = _key_of(case, by_layer=by_layer) if log else ()
        self._active_experts = Parts(log, (*self.key, "active_experts"))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """First and one past the last pass of what is priced at once."""
        placed = self.finder.replicas is not None  # whose choices are held
        return self.routing.pieces(COUNTS, None if placed else TOKENS)

    def runs(self) -> Iterator[tuple[int, int]]:
        """First and one past the last pass of all runs of passes, in order."""
        for first, last in self.pieces():
            yield from self.runs_of(first, last)

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs of passes first:last."""
        return self.finder.runs(first, last, ACTIVATIONS)

    def active_experts(self, first: int, last: int) -> Needed:
        """The active experts of the run of passes first:last."""
        return Needed(
            *self._active_experts.arrays(first, lambda: self.finder.active_experts(first, last))
        )

    def decisions(self, *by: object) -> Parts:
        """What is decided of the case, ``by`` these, too: for runs in which only prices differ."""
        case, log = self.case, self.log
        policy = (type(case.policy), case.policy.model_dump_json())
        key = (*self.key, *policy, case.slots.tobytes(), case.initial, case.seed, *by)
        return Parts(log if log and log.decisions else None, key)

    def next_use(self) -> NextUse:
        """All next uses, found from the last pass to the first."""
        key = (*self.key, "next uses")
        if self.log is not None and (known := self.log.get(key)) is not None:
            found: NextUse = known
            return found
        shape = (self.finder.layers * self.case.gpus, self.finder.width)
        uses = NextUse(*shape, list(self.runs()), self._look_back)
        if self.log is not None and (size := uses.held_bytes) is not None:
            self.log.put(key, uses, size)
        return uses

    def _look_back(self, first: int, last: int, coming: Ints) -> Steps:
        return look_back(first, self.active_experts(first, last), coming)

    @property
    def known(self) -> bool:
        """Whether an earlier run found all active experts."""
        return self._active_experts.known

    def most(self) -> Ints:
        """The most experts that a step needs of each (MoE layer, GPU), int64[MoE layers x gpus]:
        what its tokens choose, or, where an earlier run found all active experts, what it needs.
        """
        if self.log is None or not self.known:
            tokens = int(np.diff(self.case.schedule.offsets).max(initial=0))
            return np.full(self.finder.layers * self.case.gpus, tokens * self.case.trace.top_k)
        key = (*self.key, "most")
        most: Ints | None = self.log.get(key)
        if most is None:
            steps = (np.diff(self.active_experts(*run).offsets, axis=1) for run in self.runs())
            most = np.max([one.max(axis=1) for one in steps], axis=0)
            self.log.put(key, most, most.nbytes)
        return most

    def end(self) -> None:
        """The run is over: leave what it found in the log."""
        self._active_experts.end()


def _key_of(case: Case, *, by_layer: bool) -> tuple[object, ...]:
    """What the active experts depend on, for ``case.trace`` by the object, which the log does not
    keep alive.
    """
    digest = hashlib.sha256()
    schedule, placement = case.schedule, case.placement
    of_tokens = (schedule.offsets, schedule.routing_rows, schedule.gpu, schedule.phase)
    for array in (*of_tokens, placement.logical, placement.gpu_of_expert):
        digest.update(array.tobytes())
    layers = [(one.index, one.stack, one.moe.experts) for one in case.model.moe_layers if one.moe]
    digest.update(repr((case.gpus, case.slices, case.sharing, layers)).encode())
    return (ref(case.trace), by_layer, digest.hexdigest())
