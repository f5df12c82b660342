"""Which experts replicas have used last, as a router can know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from moesim.workload.schedule import Ints
from moesim.workload.serving.state import COUNT, INPUT, START, WHO, State

Choices = Callable[[Ints, Ints], Ints]
"""Experts int64[n, layers, top_k] that tokens int64[n] of requests int64[n] choose, from 0 on, -1:
none."""


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

    def used(self, replica: int, entries: Ints) -> None:
        """``entries`` of the log are a step of a ``replica``."""
        who, start, count = entries[[WHO, START, COUNT]]
        token = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        uses = self._uses(np.repeat(who, count), np.repeat(start, count) + token)
        there = uses > 0
        self._step[replica][there] = self._steps[replica]
        self._tokens[replica][there] = uses[there]
        self._steps[replica] += 1

    def overlap(self, request: int, state: State) -> Ints:
        """Choices int64[replicas] of the prompt of ``request`` that are for experts which each
        replica has used last.
        """
        token = np.arange(int(state.requests[INPUT, request]))
        uses = self._uses(np.full(len(token), request), token)
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

    def _uses(self, request: Ints, token: Ints) -> Ints:
        """Choices int64[layers, experts] of tokens."""
        chosen = self._experts.choices(request, token)
        layers, experts = len(self._experts.slots), self._experts.experts
        at = np.arange(layers)[None, :, None] * experts + chosen
        counted = np.bincount(at[chosen >= 0], minlength=layers * experts)
        return counted.reshape(layers, experts)
