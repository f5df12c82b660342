"""What runs of passes need, found in the trace by compiled code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.placed import Replicas, place_choices
from moesim.engine.replay.active_experts import (
    count_choices,
    find_active_experts,
    mark_active_experts,
    sum_choices,
    sum_weights,
)
from moesim.engine.replay.spans import UNKNOWN, Spans, places_of, running_of, spans_of
from moesim.engine.routing import Routing, units
from moesim.memory.activations import steps_of
from moesim.trace.routing import NO_EXPERT

FEWEST, LARGEST = 16, 4
"""Passes that a run has at least, where they need no more than so many times what it may: what each
run takes, whatever it has, counts for more than what fits in a cache.
"""


def counts_choices(case: Case) -> bool:
    """Whether of experts with replicas nothing but choices is counted."""
    if not case.placement.has_replicas:
        return True
    weighs = case.policy.weighs or (case.skips and case.trace.gate_weights is not None)
    served = case.serving is not None or case.schedule.served is not None
    return not (weighs or served or case.variants is not None)


class Needed(NamedTuple):
    """The active experts of a run of passes, with a row for each (MoE layer, GPU): see
    ``find_active_experts``.
    """

    offsets: Ints
    experts: Ints
    rows: Ints
    executed: Ints


class Finder:
    """Finds the active experts of a case; ``by_layer``: what is counted is by MoE layer, and not
    only the rows of several GPUs, whose balance goes by layer.
    """

    def __init__(self, case: Case, routing: Routing, *, by_layer: bool) -> None:
        self.case, self.routing = case, routing
        self.layers = len(routing.moe_layers)
        self.width = max(len(local) for local in routing.local)
        self.gpu_of_home = np.repeat(np.arange(case.holders), self.width)
        self.kept = self.layers if by_layer else 1
        self.kept_rows = self.layers if case.gpus > 1 else self.kept
        held = routing.local[:: case.slices]
        local = [gpu * self.width + np.arange(len(own)) for gpu, own in enumerate(held)]
        self._chosen = np.zeros((0, 0), np.int64)
        self._chooses_all = np.zeros(0, np.bool_)
        self._counted = self._spanned = self._alone = 0
        self._looked = False
        self.running = UNKNOWN
        self._find_homes(np.concatenate(local))

    def _find_homes(self, places: Ints) -> None:
        """Where physical experts, which are at ``places``, have their choices counted."""
        placement, logical = self.case.placement, self.routing.logical
        self.replicas: Replicas | None = None
        self._placed: tuple[tuple[int, int], NDArray[np.uint16]] | None = None
        if placement.has_replicas:
            self.replicas = Replicas.of(placement, places, logical)
            self.home = np.tile(np.arange(len(self.gpu_of_home)), (self.layers, 1))
            return
        self.home = np.zeros((self.layers, logical), np.int64)
        np.put_along_axis(self.home, placement.logical, places[None], axis=1)

    def runs(self, first: int, last: int, activations: int) -> Iterator[tuple[int, int]]:
        """Passes first:last in runs that need about so many ``activations``, of large passes some
        more, at least one pass each.
        """
        offsets, most = self.case.schedule.offsets[first : last + 1], self.width * self.case.holders
        needed = np.minimum(np.diff(offsets) * self.case.trace.top_k, most)
        needs, begin = np.concatenate(([0], np.cumsum(needed))), 0
        each = max(self.case.trace.top_k, activations // self.layers)
        while begin < last - first:
            limits = needs[begin] + np.array([each, LARGEST * each])
            few, many = (np.searchsorted(needs, limits, "right") - 1).tolist()
            end = min(last - first, max(few, min(many, begin + FEWEST), begin + 1))
            yield first + begin, first + end
            begin = end

    def choices(self, first: int, last: int) -> Ints:
        """Choices int64[passes, MoE layers, gpus] that each GPU permutes."""
        sharing = self.case.sharing
        ids, rows, gpu, offsets = self.tokens(first, last)
        active = self.routing.active(first, last)
        if not self.chooses_all:
            self._know_chosen(len(rows))
        if self.chooses_all or (len(self._chooses_all) and self._chooses_all[rows].all()):
            choices = self._of_tokens(gpu // sharing, offsets)[:, None, :]
            if self.case.model.has_encoder:
                choices = choices * active[:, :, None]
            choices = np.broadcast_to(choices, (*active.shape, self.case.senders))
        else:
            choices = np.zeros((last - first, self.layers, self.case.senders), np.int64)
            known = len(self._chosen) > 0
            count, by = (sum_choices, self._chosen) if known else (count_choices, ids)
            count(by, rows, gpu // sharing, offsets, active, choices)
        return on_each(choices, sharing, axis=2)

    @cached_property
    def chooses_all(self) -> bool:
        """Whether every row of the trace chooses as many experts as it may."""
        return not (self.case.trace.expert_ids == NO_EXPERT).any()

    def _know_chosen(self, tokens: int) -> None:
        """Know how many experts each row of the trace chooses, asked for so many tokens more: they
        are counted once more of them came than there are rows.
        """
        self._counted += tokens
        rows = self.case.trace.tokens
        if not len(self._chosen) and self._counted > rows:
            each, every = np.arange(rows + 1), np.ones((rows, self.layers), np.bool_)
            chosen = np.zeros((rows, self.layers, 1), np.int64)
            ids = self.case.trace.expert_ids
            count_choices(ids, each[:-1], np.zeros_like(each[:-1]), each, every, chosen)
            self._chosen = np.ascontiguousarray(chosen[:, :, 0])
            self._chooses_all = (self._chosen == self.case.trace.top_k).all(axis=1)

    def _of_tokens(self, senders: Ints, offsets: Ints) -> Ints:
        """Choices int64[passes, senders] of tokens that make all of theirs, in a layer."""
        number, passes = self.case.senders, len(offsets) - 1
        if number == 1:
            return np.diff(offsets)[:, None] * self.case.trace.top_k
        place = steps_of(offsets) * number + senders
        tokens = np.bincount(place, minlength=passes * number).reshape(passes, number)
        return tokens * self.case.trace.top_k

    def active_experts(self, first: int, last: int) -> Needed:
        """The active experts of passes first:last."""
        gpus, passes, slices = self.case.holders, last - first, self.case.slices
        ids, rows, _, _ = self.placed(first, last)
        most = min(len(rows) * self.case.trace.top_k, passes * self.width)
        works, spans = self.layers * gpus, self.spans(first, last)
        # also where nothing is: a log keeps it narrow; and one more, which may be written over
        experts, rows_of = np.zeros((2, works, most + 1), np.int64)
        found = Needed(
            np.empty((works, passes + 1), np.int64),
            experts,
            rows_of,
            np.zeros((passes, self.kept_rows, gpus), np.int64),
        )
        find_active_experts(
            ids, self.running, spans, self.routing.active(first, last),
            self.home, self.gpu_of_home, gpus, *found,
        )  # fmt: skip
        axes = {"offsets": 0, "experts": 0, "rows": 0, "executed": 2}
        each = {name: on_each(getattr(found, name), slices, at) for name, at in axes.items()}
        return Needed(**each)

    def spans(self, first: int, last: int, *, apart: bool = False) -> Spans:
        """The rows that passes first:last take; ``apart``: of each first those of prompts. Once
        more rows came in spans than there are, their running counts are found, and once more came
        alone, where what they choose is.
        """
        _, rows, _, offsets = self.placed(first, last)
        served = self.case.schedule.served if apart else None
        decodes = () if served is None else served.decodes[offsets[0] : offsets[-1]]
        found, within = spans_of(rows, offsets, decodes, every=self.replicas is not None)
        self._know_running(within, len(rows) - within if last - first < len(rows) else 0)
        return found

    def _know_running(self, spanned: int, alone: int) -> None:
        """Know more of what rows choose, of which so many came in spans, and so many alone."""
        self._spanned, self._alone = self._spanned + spanned, self._alone + alone
        trace, running = self.case.trace, self.running
        if self._spanned > trace.tokens and not len(running.counts):
            counted = running_of(trace.expert_ids, self.home, len(self.gpu_of_home))
            self.running = running = counted._replace(places=running.places)
        if self._alone > trace.tokens and self.replicas is None and not self._looked:
            self._looked = True
            self.running = running._replace(places=places_of(trace.expert_ids, self.home))

    def weights(self, first: int, found: Needed) -> Ints:
        """Gate weights of the active experts ``found`` in passes from ``first`` on, in units of 1 /
        WEIGHT_UNIT: int64[MoE layers x gpus, most active experts].
        """
        assert self.case.trace.gate_weights is not None, "the policy needs a trace with them"
        last = first + found.offsets.shape[1] - 1
        ids, rows, _, offsets = self.tokens(first, last)
        slices = self.case.slices
        active_offsets, experts = found.offsets[::slices], found.experts[::slices]
        weights = np.ascontiguousarray(self.case.trace.gate_weights).view(np.uint16)
        sums = np.zeros_like(experts)
        sum_weights(
            ids, weights, units(), rows, offsets, self.routing.active(first, last), self.home,
            len(self.gpu_of_home), np.ascontiguousarray(active_offsets),
            np.ascontiguousarray(experts), sums,
        )  # fmt: skip
        return on_each(sums, slices, axis=0)

    def marks(self, first: int, found: Needed) -> NDArray[np.int8]:
        """Whose tokens need the active experts ``found`` in passes from ``first`` on: int8[MoE
        layers x gpus, most active experts].
        """
        last, schedule = first + found.offsets.shape[1] - 1, self.case.schedule
        ids, rows, _, offsets = self.tokens(first, last)
        assert schedule.served is not None, "the scheduler says which tokens decode"
        decodes = schedule.served.decodes[offsets[0] : offsets[-1]]
        offsets_of, experts, own = (
            np.ascontiguousarray(one[:: self.case.slices])
            for one in (found.offsets, found.experts, found.rows)
        )
        marks = np.zeros(experts.shape, np.int8)
        mark_active_experts(
            ids, rows, decodes, offsets, self.routing.active(first, last), self.home,
            len(self.gpu_of_home), offsets_of, experts, own, marks,
        )  # fmt: skip
        return marks if self.case.slices == 1 else np.repeat(marks, self.case.slices, axis=0)

    def placed(self, first: int, last: int) -> tuple[NDArray[np.uint16], Ints, Ints, Ints]:
        """As ``tokens``, by what ``home`` is told of: experts, or where these have replicas, the
        homes of those that the tokens go to, which have a row each then. Those asked for last are
        known.
        """
        ids, rows, gpu, offsets = self.tokens(first, last)
        if self.replicas is None:
            return ids, rows, gpu, offsets
        if self._placed is None or self._placed[0] != (first, last):
            senders = gpu // self.case.sharing
            placed = place_choices(ids, rows, senders, offsets, self.replicas)
            placed.flags.writeable = False
            self._placed = (first, last), placed
        return self._placed[1], np.arange(len(rows)), gpu, offsets

    def tokens(self, first: int, last: int) -> tuple[NDArray[np.uint16], Ints, Ints, Ints]:
        """The trace's ids, and of the passes' tokens the row, sender and offsets by pass."""
        schedule = self.case.schedule
        offsets = schedule.offsets[first : last + 1]
        tokens = slice(offsets[0], offsets[-1])
        ids = self.case.trace.expert_ids
        return ids, schedule.routing_rows[tokens], schedule.gpu[tokens], offsets


def on_each(values: Ints, slices: int, axis: int) -> Ints:
    """``values`` of groups of GPUs that hold or run the same, for each of their ``slices``."""
    return values if slices == 1 else np.repeat(values, slices, axis=axis)
