"""A run without its clock where every expert is given as many rows, which tokens alone decide: so
that the same GPUs of equal layers do the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import ACCESS_HITS, KEPT_ROWS
from moesim.engine.drops import dropped_choices, lost_weights
from moesim.engine.fates import NONE_DROPPED
from moesim.engine.layout import Active
from moesim.engine.pricing.prices import PriceCache
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.program import Program, RoutedPasses
from moesim.engine.replay.activation_index import Finder, on_each
from moesim.engine.replay.capped import Kept, Tokens, count_hits, keep_choices
from moesim.engine.replay.collectives import Collectives
from moesim.engine.replay.indexed_program import NONE, IndexedProgram, is_indexed, stays
from moesim.engine.routing import Key, units
from moesim.gating.base import Gating
from moesim.memory.activations import Activations, steps_of
from moesim.placement.base import rows_between_gpus

UNWEIGHED = np.empty((0, 0, 0), np.uint16)


def is_padded(case: Case) -> bool:
    """Whether the rows of ``case``'s experts are a capacity that its tokens decide, and what else
    becomes of choices is not asked by expert.
    """
    gating, apart = case.gating, case.skips or case.variants is not None or case.prefetches
    padded = gating.invokes_all and type(gating).route is Gating.route
    none = np.zeros((1, 1), np.int64)
    return padded and gating.room(none, 1, 1) is not None and stays(case) and not apart


class PaddedProgram(IndexedProgram):
    """``Program`` of a case that ``is_padded``."""

    def __init__(self, case: Case, *, by_layer: bool = True) -> None:
        super().__init__(case, by_layer=by_layer)
        self.collectives: PaddedCollectives
        self.collectives = PaddedCollectives(self.case, self.finder, self.provenance)
        self._tokens: Tokens
        self._kept: Kept

    def _chunk(self, first: int, last: int) -> Chunk:
        chunk = super()._chunk(first, last)
        self._count_kept(chunk)
        return chunk

    def _routed(self, first: int, last: int) -> RoutedPasses:
        case, active = self.case, self.routing.active(first, last)
        tokens = case.of_senders(self.pricing.tokens(first, last))
        room = case.gating.room(tokens, self.routing.experts, case.trace.top_k)
        assert room is not None, "tokens decide it"
        capacity = np.repeat(room[:, None], active.shape[1], axis=1)
        kept = self._keep(first, last, active, room)
        lost, dropped = kept.weight, NONE_DROPPED
        if case.gating.drops == "first_come" and kept.dropped.any():
            dropped = ~kept.choices
        elif self._weighs and kept.dropped.any():
            dropped = dropped_choices(case, (first, last), kept.dropped, capacity)
            of_experts = lost_weights(case, self.routing, (first, last), dropped)
            of_experts.sum(axis=2, out=lost[:, :, 0])
        both = self.collectives.padded(first, last, np.where(active, capacity, 0))
        return RoutedPasses(
            on_each(kept.of_senders, case.sharing, axis=2), capacity, case.slices * kept.dropped,
            case.slices * lost, self._works(room * case.senders, active),
            (list(both[0]), list(both[1])), dropped,
        )  # fmt: skip

    def _marks(self, first: int, works: dict[Key, Active]) -> dict[Key, Ints]:
        """As in ``Program``: every expert is called, whoever chose it."""
        return super(IndexedProgram, self)._marks(first, works)

    @property
    def _weighs(self) -> bool:
        """Whether gate weights are counted."""
        return self.case.trace.gate_weights is not None and self.case.gating.drops is not None

    def _keep(self, first: int, last: int, active: NDArray[np.bool_], room: Ints) -> Kept:
        """What is kept of the choices in passes first:last, with ``room`` int64[passes]."""
        case, finder, layers = self.case, self.finder, active.shape[1]
        ids, rows, gpu, offsets = finder.tokens(first, last)
        self._tokens = Tokens(rows, gpu // case.sharing, offsets, active)
        kept, passes = layers if self.by_layer else 1, last - first
        self._kept = Kept(
            np.zeros((len(rows), layers, ids.shape[2]), np.bool_),
            np.zeros((passes, layers, case.senders), np.int64),
            np.zeros((passes, kept, case.holders), np.int64),
            np.zeros((passes, layers), np.int64),
            np.zeros((passes, layers, 2), np.int64),
        )
        weights = UNWEIGHED
        if self._weighs:
            weights = np.ascontiguousarray(case.trace.gate_weights).view(np.uint16)
        homes = finder.home, finder.gpu_of_home
        keep_choices(ids, weights, units(), self._tokens, *homes, room, self._kept)
        return self._kept

    def _works(self, rows: Ints, active: NDArray[np.bool_]) -> dict[Key, Active]:
        """The active experts of every MoE layer and GPU, of ``rows`` int64[passes] each: equal ones
        are one. What is kept of them is counted apart.
        """
        made: dict[tuple[bytes, int], Active] = {}
        works = {}
        for layer, gpu in self.keys():
            runs, local = active[:, layer], len(self.routing.local[gpu])
            alike = runs.tobytes(), local
            if alike not in made:
                own = np.repeat(rows[runs], local)
                made[alike] = Active(
                    np.concatenate(([0], np.cumsum(runs * local))),
                    np.tile(np.arange(local), int(runs.sum())), own, np.zeros_like(own), NONE,
                )  # fmt: skip
            works[layer, gpu] = made[alike]
        return works

    def _count_kept(self, chunk: Chunk) -> None:
        """Count the choices that are kept, and those of them whose expert was a hit."""
        finder, counts = self.finder, chunk.counts
        counts[..., KEPT_ROWS] += on_each(self._kept.of_holders, self.case.slices, axis=2)
        known: dict[tuple[int, int], NDArray[np.bool_] | None] = {}
        for (layer, gpu), work in chunk.work.items():
            made, at = work.activations, (layer if counts.shape[1] > 1 else 0, gpu)
            holder = gpu // self.case.slices
            alike = id(made), holder
            if alike not in known:
                known[alike] = self._hits(made, work.active_experts.offsets, holder)
            hits, found = known[alike], np.zeros(chunk.passes, np.int64)
            if hits is not None:
                choices = self._kept.choices, layer, finder.home[layer]
                count_hits(self.case.trace.expert_ids, self._tokens, *choices, hits, found)
                counts[:, *at, ACCESS_HITS] += found

    def _hits(self, made: Activations, offsets: Ints, holder: int) -> NDArray[np.bool_] | None:
        """Where the activations of ``holder`` are hits, bool[passes, homes]; None without one."""
        if not made.hit.any():
            return None
        hits = np.zeros((len(offsets) - 1, len(self.finder.gpu_of_home)), np.bool_)
        step = steps_of(offsets)
        hits[step, holder * self.finder.width + made.expert] = made.hit
        return hits


class PaddedCollectives(Collectives):
    """Prices exchanges where every GPU sends as many rows to each expert: by that number."""

    def __init__(self, case: Case, finder: Finder, provenance: Provenance) -> None:
        super().__init__(case, finder, provenance)
        self.by_busiest = self.alike = False
        if not case.gathers:
            self.known = PriceCache(1, ways=2)

    def padded(self, first: int, last: int, capacity: Ints) -> tuple[Ints, Ints]:
        """Dispatch and combine int64[MoE layers, passes] of passes first:last, of ``capacity``
        int64[passes, MoE layers] rows; nothing on one GPU.
        """
        if self.case.gpus == 1:
            return NONE, NONE
        if self.case.gathers:
            return self.prices(first, last)
        shapes = np.ascontiguousarray(capacity.T).reshape(-1, 1)
        dispatch, combine = self.known.prices(shapes, self._both).reshape(2, *capacity.T.shape)
        return dispatch, combine

    def _rows_by(self, shapes: Ints) -> Ints:
        if self.case.gathers:
            return super()._rows_by(shapes)
        gpu_of_expert = self.case.placement.gpu_of_expert
        sent = np.broadcast_to(
            shapes[:, :, None], (len(shapes), self.case.gpus, len(gpu_of_expert))
        )
        return rows_between_gpus(sent, gpu_of_expert)


def program_of(case: Case, *, by_layer: bool) -> Program:
    """What decides and prices ``case``."""
    kind = PaddedProgram if is_padded(case) else IndexedProgram if is_indexed(case) else Program
    return kind(case, by_layer=by_layer)
