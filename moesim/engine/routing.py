"""Which experts every forward pass needs, counted from the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.marks import marks_of
from moesim.engine.once import send_once
from moesim.engine.placed import Replicas, place_choices
from moesim.memory.activations import ActiveExperts, steps_of
from moesim.runtime.compiled import built_in, njit, types
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

Key = tuple[int, int]
"""A MoE layer and a GPU; a pool goes by its first layer."""
CELLS = 1 << 21
"""Counts, and choices, held at once."""
ACTIVE = CELLS >> 2
"""Active experts held at once where choices are not."""
BLOCK = 1 << 15
"""Passes whose prices without routing are found at once."""


TOKENS = 1 << 32
"""Of a share the tokens are in whole ones of these, and the choices are the rest."""


def tokens_of(share: Ints, rows: Ints) -> Ints:
    """The tokens int64[n], rounded up, whose choices make ``rows`` int64[n] of a layer of passes,
    each of which has this ``share`` (``Routing.shares``).
    """
    return -(-rows * (share // TOKENS) // (share % TOKENS))


def end_of_block(first: int) -> int:
    """One past the last pass of the block that pass ``first`` is in."""
    return (first // BLOCK + 1) * BLOCK


class Routing:
    """Counts of a case by forward pass, in pieces of bounded size."""

    def __init__(self, case: Case) -> None:
        self.case = case
        none = np.zeros((0, 0, 0), np.int64)
        self._chosen: tuple[tuple[int, int], tuple[NDArray[np.uint16], Ints, Ints]]
        self._chosen = (-1, -1), (none.astype(np.uint16), none, np.zeros(0, np.int64))
        self._numbered: tuple[tuple[int, int], NDArray[np.uint16]]
        self._numbered = (-1, -1), none.astype(np.uint16)
        self.moe_layers = case.model.moe_layers
        self.local = [case.local_experts(gpu) for gpu in range(case.gpus)]
        of_layers = [layer.moe.experts for layer in self.moe_layers if layer.moe]
        self.logical = max(of_layers)  # the model decides: a trace may name more than it uses
        self.experts = case.placement.physical
        self.placement = case.placement
        """That of the passes at hand."""
        self.reach: Callable[[int, int], int] | None = None
        """Is told the next piece, and cuts it where experts get other places."""

    def pieces(
        self, counts: int | None = None, tokens: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """First and one past the last pass of each piece; a piece holds at least one pass. Held are
        so many ``counts`` of a pass, layer and GPU, by default one an expert, and so many
        ``tokens``, by default those whose choices fit, 0: those whose active experts fit, of passes
        of one block, launched alike. A
        schedule that grows is asked for more when all that is known has been played.
        """
        schedule, first = self.case.schedule, 0
        while first < schedule.passes or schedule.more():
            last = self._end_of_piece(first, schedule.passes, counts, tokens)
            yield first, last
            first = last

    def pieces_between(
        self, first: int, last: int, counts: int | None, tokens: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """As ``pieces``, of passes first:last alone."""
        while first < last:
            end = self._end_of_piece(first, last, counts, tokens)
            yield first, end
            first = end

    def _end_of_piece(self, first: int, last: int, counts: int | None, tokens: int | None) -> int:
        """One past the last pass of the piece from ``first`` on, of those before ``last``."""
        layers, offsets = len(self.moe_layers), self.case.schedule.offsets
        most_passes = max(1, CELLS // (layers * self.case.gpus * (counts or self.experts)))
        last = min(last, first + most_passes, end_of_block(first))
        if tokens == 0:
            fits = self._end_of_active(first, last)
        else:
            most_tokens = tokens or max(1, CELLS // (layers * self.case.trace.top_k))
            fits = int(np.searchsorted(offsets, offsets[first] + most_tokens, "right")) - 1
        last = min(last, max(fits, first + 1))
        if self.case.captured is not None:
            executions = self.case.executions(first, last)
            last = first + next(
                (n for n, one in enumerate(executions) if one != executions[0]), last - first
            )
        return last if self.reach is None else self.reach(first, last)

    def _end_of_active(self, first: int, last: int) -> int:
        """One past the last of passes first:last whose active experts fit."""
        tokens, slices = np.diff(self.case.schedule.offsets[first : last + 1]), self.case.slices
        each = np.minimum(tokens * self.case.trace.top_k, self.experts) * slices
        needed = np.cumsum(each) * len(self.moe_layers)
        return first + int(np.searchsorted(needed, ACTIVE, "right"))

    def active(self, first: int, last: int) -> NDArray[np.bool_]:
        """bool[passes, MoE layers]: whether a pass runs a layer."""
        encode = self.case.schedule.phase[first:last] == Phase.ENCODE
        if not self.case.model.has_encoder:
            return np.ones((last - first, len(self.moe_layers)), np.bool_)
        of_encoder = np.array([layer.stack == "encoder" for layer in self.moe_layers])
        runs: NDArray[np.bool_] = np.equal(encode[:, None], of_encoder)
        return runs

    def counts(self, first: int, last: int) -> Ints:
        """Choices int64[passes, MoE layers, senders, experts], by physical expert."""
        return self.placement.spread(self.choices(first, last))

    def sent_once(self, first: int, last: int) -> Ints:
        """Rows int64[MoE layers, passes, gpus, gpus] between GPUs where a token goes once to each
        that has experts of its.
        """
        case, schedule, placement = self.case, self.case.schedule, self.placement
        offsets = schedule.offsets[first : last + 1]
        rows, senders = (
            one[offsets[0] : offsets[-1]] for one in (schedule.routing_rows, schedule.gpu)
        )
        ids = case.trace.expert_ids
        if placement.has_replicas:
            replicas = Replicas.of(placement, np.arange(placement.physical), self.logical)
            ids, rows = place_choices(ids, rows, senders, offsets, replicas), np.arange(len(rows))
            gpu_of = np.tile(placement.gpu_of_expert, (len(placement.logical), 1))
        else:
            gpu_of = placement.gpu_of_expert[np.argsort(placement.logical)]
        sent = np.zeros((len(gpu_of), last - first, case.gpus, case.gpus), np.int64)
        node = case.gpus // case.nodes
        send_once(ids, rows, senders, offsets, self.active(first, last), gpu_of, node, sent)
        return sent

    def shares(self, first: int, last: int) -> Ints:
        """By pass and MoE layer its tokens and their choices, in one number, int64[passes, MoE
        layers].
        """
        offsets = self.case.schedule.offsets[first : last + 1]
        rows = self.case.schedule.routing_rows[offsets[0] : offsets[-1]]
        shares = np.repeat(TOKENS * np.diff(offsets)[:, None], len(self.moe_layers), axis=1)
        _add_up(self._used, rows, steps_of(offsets), shares)
        return shares

    @cached_property
    def _used(self) -> NDArray[np.uint16]:
        """How many choices each row of the trace has in each MoE layer."""
        used: NDArray[np.uint16] = (self.case.trace.expert_ids != NO_EXPERT).sum(2, dtype=np.uint16)
        return used

    def choices(self, first: int, last: int, *, decoded: bool = False) -> Ints:
        """Choices int64[passes, MoE layers, senders, experts], by logical expert; ``decoded``: of
        tokens that a scheduler decodes alone.
        """
        case, schedule = self.case, self.case.schedule
        low, high = schedule.offsets[first], schedule.offsets[last]
        ids = np.ascontiguousarray(case.trace.expert_ids[schedule.routing_rows[low:high]])
        if decoded:
            assert schedule.served is not None, "the scheduler says which tokens decode"
            ids[~schedule.served.decodes[low:high]] = NO_EXPERT
        of_pass = steps_of(schedule.offsets[first : last + 1])
        counts = np.zeros((last - first, ids.shape[1], case.senders, self.logical), np.int64)
        _count(ids, of_pass, schedule.gpu[low:high] // case.sharing, counts)
        counts[~self.active(first, last)] = 0
        return counts

    def marks(self, first: int, last: int) -> Ints:
        """Whose tokens choose an expert, int64[passes, MoE layers, experts], by physical expert:
        each replica has the mark of its expert.
        """
        decoded, chosen = (
            of_all(self.choices(first, last, decoded=only)) for only in (True, False)
        )
        return self.placement.of_logical(marks_of(decoded, chosen))

    def weights(self, first: int, last: int) -> Ints:
        """Gate weights int64[passes, MoE layers, experts], summed over tokens, in units of
        1 / WEIGHT_UNIT; by physical expert, each replica the whole of its expert.
        """
        assert self.case.trace.gate_weights is not None, "the policy needs a trace with them"
        ids, weights, of_pass = self.chosen_weights(first, last)
        sums = np.zeros((last - first, ids.shape[1], self.logical), np.int64)
        add_weights(ids, weights, of_pass, sums)
        return self.placement.of_logical(sums)

    def of_active(self, table: Ints, active: Mapping[Key, ActiveExperts]) -> dict[Key, Ints]:
        """What ``table`` [passes, MoE layers, experts] has of each of the ``active`` experts of a
        MoE layer on a GPU.
        """
        return {
            (layer, gpu): table[steps_of(one.offsets), layer, self.local[gpu][one.experts]]
            for (layer, gpu), one in active.items()
        }

    def chosen_weights(self, first: int, last: int) -> tuple[NDArray[np.uint16], Ints, Ints]:
        """Of each token of passes first:last its choices [tokens, MoE layers, k], their gate
        weights likewise, in units of 1 / WEIGHT_UNIT (0 without), and its pass, from 0 on; not to
        be written. Those asked for last are known.
        """
        if self._chosen[0] != (first, last):
            case, offsets = self.case, self.case.schedule.offsets[first : last + 1]
            rows = case.schedule.routing_rows[offsets[0] : offsets[-1]]
            shape = len(rows), *case.trace.expert_ids.shape[1:]
            ids, weights = np.empty(shape, np.uint16), np.empty(shape, np.int64)
            take_choices(case.trace, rows, ids, weights)
            self._chosen = (first, last), (ids, weights, steps_of(offsets))
        return self._chosen[1]

    def needed(
        self, first: int, last: int, keys: Iterable[Key], *, through: bool = False
    ) -> dict[Key, ActiveExperts]:
        """The active experts of layers on GPUs in passes first:last, before gating drops any;
        ``through``: of those passes alone that go through the caches.
        """
        counts, active = of_all(self.counts(first, last)), self.active(first, last)
        if through:
            some = ~self.case.bypassed[first:last]
            counts, active = counts[some], active[some]
        every, found = self.case.gating.invokes_all, dict[Key, ActiveExperts]()
        for layer, gpu in keys:
            local = self.local[gpu]
            rows = active[:, layer, None] if every else counts[:, layer, _slice(local)] > 0
            mask = np.broadcast_to(rows, (len(rows), len(local)))
            found[layer, gpu] = ActiveExperts.of(mask)
        return found

    @cached_property
    def replicas(self) -> Replicas | None:
        """Where experts are that have more than one place; None where none has."""
        if not self.placement.has_replicas:
            return None
        return Replicas.of(self.placement, np.arange(self.placement.physical), self.logical)

    @property
    def numbers(self) -> int:
        """How many numbers ``numbered`` gives."""
        return self.logical if self.replicas is None else self.placement.physical

    def numbers_of(self, layer: int, gpu: int) -> Ints:
        """What ``numbered`` calls the experts of ``gpu`` in a MoE layer."""
        local = self.local[gpu]
        return local if self.replicas is not None else self.placement.logical[layer][local]

    def numbered(self, first: int, last: int) -> NDArray[np.uint16]:
        """Which expert each choice of ``chosen_weights`` goes to: where some have replicas, the
        physical one that serves it, which is told as in ``placed.place_choices``.
        """
        ids, _, _ = self.chosen_weights(first, last)
        if self.replicas is None:
            return ids
        if self._numbered[0] != (first, last):
            schedule = self.case.schedule
            offsets = schedule.offsets[first : last + 1]
            senders = schedule.gpu[offsets[0] : offsets[-1]] // self.case.sharing
            rows = np.arange(len(ids))
            placed = place_choices(ids, rows, senders, offsets - offsets[0], self.replicas)
            self._numbered = (first, last), placed
        return self._numbered[1]

    def numbered_weights(self, first: int, last: int) -> Ints:
        """Gate weights int64[passes, MoE layers, numbers] of the choices that go to each."""
        ids, weights, of_pass = self.chosen_weights(first, last)
        sums = np.zeros((last - first, ids.shape[1], self.numbers), np.int64)
        add_weights(self.numbered(first, last), weights, of_pass, sums)
        return sums

    def recorded(self, first: int, last: int) -> NDArray[np.bool_]:
        """bool[distances, passes, MoE layers, experts], by logical expert: what the trace's
        look-ahead predicted for the tokens of a pass.
        """
        case, schedule = self.case, self.case.schedule
        low, high = schedule.offsets[first], schedule.offsets[last]
        ids = case.trace.look_ahead[schedule.routing_rows[low:high]].astype(np.int64)
        of_pass = steps_of(schedule.offsets[first : last + 1])
        distance, layer = np.arange(ids.shape[1]), np.arange(ids.shape[2])
        places = (distance[:, None, None], of_pass[:, None, None, None], layer[:, None])
        mask = np.zeros((ids.shape[1], last - first, ids.shape[2], self.logical), np.bool_)
        known = ids < self.logical
        mask[*(np.broadcast_to(place, ids.shape)[known] for place in places), ids[known]] = True
        return mask


@njit(
    types.void(
        types.uint16[:, :, ::1], types.int64[:, :, ::1], types.int64[::1], types.int64[:, :, ::1]
    ),
    cache=True,
)
def add_weights(ids: Any, weights: Any, of_pass: Any, sums: Any) -> None:
    """Add the ``weights`` of choices ``ids`` [tokens, MoE layers, k] to ``sums`` [passes, MoE
    layers, experts].
    """
    for token in range(ids.shape[0]):
        for layer in range(ids.shape[1]):
            for rank in range(ids.shape[2]):
                expert = ids[token, layer, rank]
                if expert != NO_EXPERT:
                    sums[of_pass[token], layer, expert] += weights[token, layer, rank]


@njit(
    types.void(
        types.uint16[:, :, ::1], types.int64[::1], types.int64[::1], types.int64[:, :, :, ::1]
    ),
    cache=True,
)
def _count(ids: Any, of_pass: Any, sender: Any, counts: Any) -> None:
    """Add choices ``ids`` [tokens, MoE layers, k] to ``counts`` [passes, MoE layers, senders,
    experts].
    """
    for token in range(ids.shape[0]):
        for layer in range(ids.shape[1]):
            of_layer = counts[of_pass[token], layer, sender[token]]
            for rank in range(ids.shape[2]):
                expert = ids[token, layer, rank]
                if expert != NO_EXPERT:
                    of_layer[expert] += 1


@njit(
    types.void(types.uint16[:, ::1], types.int64[::1], types.int64[::1], types.int64[:, ::1]),
    cache=True,
)
def _add_up(used: Any, rows: Any, of_pass: Any, sums: Any) -> None:
    """Add what is ``used`` [rows of the trace, MoE layers] by ``rows`` to ``sums`` [passes, MoE
    layers].
    """
    for token in range(len(rows)):
        for layer in range(used.shape[1]):
            sums[of_pass[token], layer] += used[rows[token], layer]


@built_in
def unit_of(bits: Any) -> Any:
    """What the fp16 of these ``bits`` int64 is in units of 1 / WEIGHT_UNIT, which is that of the
    smallest; 0 where it is no number.
    """
    exponent, sign = (bits >> 10) & 31, bits >> 15
    normal = exponent > 0
    size = ((bits & 1023) + (normal << 10)) << (exponent - normal)
    return ((size ^ -sign) + sign) * (exponent < 31)  # noqa: PLR2004


@cache
def units() -> Ints:
    """What each fp16 is, by its bits: see ``unit_of``."""
    found: Ints = unit_of(np.arange(1 << 16))
    return found


_IDS = types.Array(types.uint16, 3, "C", readonly=True)


@njit(
    types.void(
        _IDS, _IDS, types.int64[::1], types.uint16[:, :, ::1], types.int64[:, :, ::1],
    ),
    cache=True, _nrt=False,
)  # fmt: skip
def _take(ids: Any, bits: Any, rows: Any, chosen: Any, weights: Any) -> None:
    """Fill in the choices of ``rows`` of a trace, ``chosen`` [tokens, MoE layers, k], and their
    gate ``weights``, of such ``bits``.
    """
    choices = ids.shape[1] * ids.shape[2]
    for token in range(len(rows)):
        own, of_row = ids[rows[token]].reshape(choices), bits[rows[token]].reshape(choices)
        here, weighed = chosen[token].reshape(choices), weights[token].reshape(choices)
        for i in range(choices):
            here[i] = own[i]
            weighed[i] = unit_of(np.int64(of_row[i])) * (own[i] != NO_EXPERT)


def take_choices(trace: RoutingTrace, rows: Ints, ids: NDArray[np.uint16], weights: Ints) -> None:
    """Fill in the choices ``ids`` [tokens, MoE layers, k] of ``rows`` of a trace, and their gate
    ``weights`` likewise, in units of 1 / WEIGHT_UNIT (0 without).
    """
    if trace.gate_weights is None:
        weights[:] = 0
        np.take(trace.expert_ids, rows, axis=0, out=ids)
    else:
        bits = np.ascontiguousarray(trace.gate_weights).view(np.uint16)
        _take(trace.expert_ids, bits, rows, ids, weights)


def of_all(counts: Ints) -> Ints:
    """Choices [passes, MoE layers, senders, experts] of all senders together; not to be written."""
    together: Ints = counts[:, :, 0] if counts.shape[2] == 1 else counts.sum(axis=2)
    return together


def _slice(experts: Ints) -> slice | Ints:
    """``experts``, ascending, as a slice where they are neighbours: faster to read."""
    first, last = int(experts[0]), int(experts[-1])
    return slice(first, last + 1) if last - first + 1 == len(experts) else experts
