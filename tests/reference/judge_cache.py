"""Slots and victims, expert by expert, as if no time passed (docs/semantics.md)."""

from __future__ import annotations

import zlib
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from .judge_words import NO_EXPERT, Config, Trace, Turn

NEVER = (10**18, 0)  # a next use (step, turn) after every other


def usage_of(trace: Trace, layer: int, experts: int, first_part: float | Fraction) -> list[int]:
    """How often each expert was chosen in the first part of the trace, all phases."""
    first = ceil(Fraction(str(first_part)) * len(trace["expert_ids"]))
    usage = [0] * experts
    for token in trace["expert_ids"][:first]:
        for expert in token[layer]:
            if expert != NO_EXPERT:
                usage[expert] += 1
    return usage


class Cache:
    """The slots of one (GPU, MoE layer)."""

    def __init__(
        self,
        config: Config,
        *,
        gpu: int,
        layer: int,
        local: list[int],
        usage: list[int],
        needs: list[tuple[int, list[int]]],
    ) -> None:
        """``needs``: every (step, ascending ids) at which this layer runs."""
        self.config, self.gpu, self.layer, self.usage = config, gpu, layer, usage
        self.slots = len(local) if config.slots is None else config.slots
        self.all_resident = self.slots >= len(local)  # resident from the start, no copies
        self.now = 0
        self.uses: dict[int, list[tuple[int, int]]] = {e: [] for e in local}
        for step, ids in needs:  # next use as (step, turn), id order assumed
            for rank, expert in enumerate(ids):
                self.uses[expert].append((step, rank))
        self.last_use = dict.fromkeys(local, -1)
        self.inserted = dict.fromkeys(local, -1)
        self.frequency = dict.fromkeys(local, 0)
        self.next_use = {e: self.use_after(e, -1) for e in local}
        self.resident: set[int] = set()
        if self.all_resident:
            self.resident = set(local)
        elif config.initial == "most_used":
            self.resident = set(sorted(local, key=lambda e: (-usage[e], e))[: self.slots])
        turns = sum(len(ids) for _, ids in needs)
        stream = [config.seed, zlib.crc32(b"cache_policy.random"), gpu, layer]
        self.uniform = [float(u) for u in np.random.default_rng(stream).random(turns)]

    def use_after(self, expert: int, step: int) -> tuple[int, int]:
        for use in self.uses[expert]:
            if use[0] > step:
                return use
        return NEVER

    def choose(self, candidates: list[int]) -> int:
        """The policy's victim; ``candidates`` ascend, so that ties evict the lowest id."""
        policy = self.config.policy
        if policy == "random":
            return candidates[floor(self.uniform[self.now] * len(candidates))]
        if policy in ("lifo", "min"):  # the greatest goes: loaded last, needed last
            values: Any = self.inserted if policy == "lifo" else self.next_use
            worst = max(values[e] for e in candidates)
        else:  # the least goes
            values = {
                "lru": self.last_use,
                "fifo": self.inserted,
                "lfu": self.frequency,
                "static": self.usage,
            }[policy]
            worst = min(values[e] for e in candidates)
        return next(e for e in candidates if values[e] == worst)

    def step(self, step: int, needed: list[int]) -> list[Turn]:
        """The turns of one step in execution order; their waves are not set yet."""
        order = sorted(needed)
        at_start = set(self.resident)
        if self.config.order == "resident_first":
            order = [e for e in order if e in at_start] + [e for e in order if e not in at_start]
        turns = []
        for place, expert in enumerate(order):
            turn = Turn(step, self.layer, self.gpu, place, expert, expert in self.resident)
            turn.resident_at_start = expert in at_start
            if not turn.hit:
                turn.victim, turn.rule = self.make_room(order, place)
                if turn.victim is not None:
                    self.resident.remove(turn.victim)
                self.resident.add(expert)
            assert len(self.resident) <= self.slots or self.all_resident
            # then its recency, frequency and, if loaded, insertion order are updated.
            self.last_use[expert] = self.now
            self.frequency[expert] += 1
            if not turn.hit:
                self.inserted[expert] = self.now
            self.next_use[expert] = self.use_after(expert, step)
            self.now += 1
            turns.append(turn)
        return turns

    def make_room(self, order: list[int], place: int) -> tuple[int | None, str]:
        if len(self.resident) < self.slots:
            return None, "free"
        # (a) residents not in N
        candidates = sorted(self.resident - set(order))
        if candidates:
            return self.choose(candidates), "a"
        # (b) experts of N whose turn is over
        candidates = sorted(self.resident & set(order[:place]))
        if candidates:
            return self.choose(candidates), "b"
        # (c) the resident expert of N that comes last in the execution order
        return [e for e in order if e in self.resident][-1], "c"


def form_waves(turns: list[Turn], config: Config) -> list[list[Turn]]:
    """The kernels of one step, and each turn's wave number."""
    waves: list[list[Turn]] = []
    residents_ended = False
    for turn in turns:
        current = waves[-1] if waves else []
        if config.kernels == "serial":
            new = True  # one kernel an expert
        else:
            new = not waves
            # rule (b): it takes the slot of an expert of the same wave
            if turn.rule == "b" and turn.victim in [other.expert for other in current]:
                new = True
            # resident_first: where the residents end
            if (
                config.order == "resident_first"
                and not turn.resident_at_start
                and not residents_ended
            ):
                residents_ended = True
                new = True
        if new:
            waves.append([])
        waves[-1].append(turn)
        turn.wave = len(waves) - 1
    return waves
