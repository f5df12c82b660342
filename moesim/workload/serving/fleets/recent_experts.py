"""Which experts replicas have used last, as a router can know it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from moesim.workload.schedule import Ints
from moesim.workload.serving.state import BEGIN, COUNT, INPUT, START, STEPS, WHO, State

Choices = Callable[[Ints, Ints], Ints]
"""Experts int64[n, layers, top_k] that tokens int64[n] of requests int64[n] choose, from 0 on, -1:
none."""


MOST_TOKENS = 1 << 12
"""Tokens of steps that are looked at together."""


class Experts(NamedTuple):
    """``choices`` of tokens among so many ``experts`` of each layer, of which a replica has
    ``slots`` int64[layers] for some.
    """

    choices: Choices
    experts: int
    slots: Ints


class RecentExperts:
    """Of each of ``replicas`` and each layer the experts that its steps chose last, as many as it
    has slots: of a step those of most tokens, of equals the first.
    """

    def __init__(self, experts: Experts, replicas: int) -> None:
        self._experts = experts
        shape = (replicas, len(experts.slots), experts.experts)
        self._step, self._tokens = np.full(shape, -1), np.zeros(shape, np.int64)
        self._steps = np.zeros(replicas, np.int64)

    def see(self, replica: int, state: State) -> None:
        """The steps of a ``replica`` since it was seen last."""
        first, last = int(self._steps[replica]), int(state.numbers[STEPS])
        begins = state.steps[BEGIN, first : last + 1]
        tokens = np.append(0, np.cumsum(state.log[COUNT, begins[0] : begins[-1]]))
        parts = tokens[begins - begins[0]] // MOST_TOKENS
        ends = [first, *(first + 1 + np.flatnonzero(np.diff(parts))).tolist(), last]
        for low, high in pairwise(ends):
            self._see(replica, state, low, high)
        self._steps[replica] = last

    def _see(self, replica: int, state: State, first: int, last: int) -> None:
        """Steps first:last: of each expert the last one that chooses it."""
        begins = state.steps[BEGIN, first : last + 1]
        log = state.log[[WHO, START, COUNT], begins[0] : begins[-1]]
        who, start, count = log.astype(np.int64)
        token = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        step = np.repeat(np.repeat(np.arange(last - first), np.diff(begins)), count)
        uses = self._uses(np.repeat(who, count), np.repeat(start, count) + token, step)
        there = uses.any(axis=0)
        latest = len(uses) - 1 - (uses[::-1] > 0).argmax(axis=0)
        tokens = np.take_along_axis(uses, latest[None], axis=0)[0]
        self._step[replica][there] = first + latest[there]
        self._tokens[replica][there] = tokens[there]

    def overlap(self, request: int, state: State) -> Ints:
        """Choices int64[replicas] of the prompt of ``request`` that are for experts which each
        replica has used last.
        """
        token = np.arange(int(state.requests[INPUT, request]))
        (uses,) = self._uses(np.full(len(token), request), token, np.zeros_like(token))
        found = [int((uses * self._held(one)).sum()) for one in range(len(self._steps))]
        return np.array(found)

    def _held(self, replica: int) -> Ints:
        """Whether each expert [layers, experts] is among the last."""
        step, tokens = self._step[replica], self._tokens[replica]
        expert = np.broadcast_to(np.arange(step.shape[1]), step.shape)
        order = np.lexsort((expert, -tokens, -step), axis=1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, expert, axis=1)
        held: Ints = (rank < self._experts.slots[:, None]) & (step >= 0)
        return held

    def _uses(self, request: Ints, token: Ints, step: Ints) -> Ints:
        """Choices int64[steps, layers, experts] of tokens in steps, from 0 on."""
        chosen = self._experts.choices(request, token)
        layers, experts = len(self._experts.slots), self._experts.experts
        at = (step[:, None] * layers + np.arange(layers))[:, :, None] * experts + chosen
        steps = int(step.max(initial=0)) + 1
        counted = np.bincount(at[chosen >= 0], minlength=steps * layers * experts)
        return counted.reshape(steps, layers, experts)
