"""An audit of the activations of one layer: sets and plain Python, no compiled code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.policy import (
    FREQUENCY,
    INSERTED,
    LAST_PASS,
    LAST_USE,
    NEVER,
    NEXT_USE,
    ROWS,
    THIS_PASS,
    USAGE,
    WEIGHT_UNIT,
    CachePolicy,
)
from moesim.runtime import bounded
from moesim.testing.traces import active_experts_of

STEP = 1 << 20
"""A next use is step * STEP + id, as one number."""


@dataclass(frozen=True)
class Setting:
    """What surrounds a policy: ``uses`` of each expert in the trace's first part give USAGE.

    ``initial`` experts are resident at the start, at most ``slots``.
    """

    experts: int
    slots: int
    serial: bool = False
    resident_first: bool = False
    initial: tuple[int, ...] = ()
    uses: tuple[int, ...] = ()
    seed: int = 0

    @property
    def usage(self) -> NDArray[np.int64]:
        """What USAGE holds: int64[experts]."""
        return np.array(self.uses or (0,) * self.experts, np.int64)

    def weights(self, active: ActiveExperts) -> NDArray[np.int64]:
        """A gate weight for each active expert, with zeros among them."""
        drawn = np.random.default_rng(self.seed + 1).integers(
            0, 3 * WEIGHT_UNIT, len(active.experts)
        )
        return np.maximum(drawn - WEIGHT_UNIT, 0)

    def draws(self, active: ActiveExperts) -> NDArray[np.float64]:
        """A number in [0, 1) for each activation."""
        return np.random.default_rng(self.seed).random(len(active.experts))


@dataclass
class Audit:
    """Follows recorded activations with its own residents and state; ``verify`` asserts every
    rule.
    """

    policy: CachePolicy
    steps: Sequence[Sequence[int]]
    setting: Setting
    residents: set[int] = field(init=False)
    state: NDArray[np.int64] = field(init=False)
    now: int = 0

    def __post_init__(self) -> None:
        self.residents = set(self.setting.initial)
        self.state = np.zeros((ROWS + self.policy.memory, self.setting.experts), np.int64)
        self.state[[LAST_USE, INSERTED, LAST_PASS]] = -1
        self.state[USAGE] = self.setting.usage
        for expert in range(self.setting.experts):
            self.state[NEXT_USE, expert] = self._next_use(expert, 0)
        held = np.isin(np.arange(self.setting.experts), self.setting.initial)
        self.policy.start(self.state, self._slots, held, 1)
        self.state = self.state.view(bounded.Bounded)

    @property
    def _slots(self) -> int:
        """Slots, or the buffers that take their place."""
        return self.policy.shared_buffers() or self.setting.slots

    def verify(self, activations: Activations) -> None:
        """Raise AssertionError at the first activation that breaks a rule, or where the policy
        reads or writes beyond ``state``.
        """
        try:
            self._follow(activations)
        except IndexError as error:
            frames = traceback.extract_tb(error.__traceback__)
            at = [frame for frame in frames if frame.filename != bounded.__file__][-1]
            said = f"reaches beyond 'state', {error} ({at.filename}:{at.lineno})"
            raise AssertionError(f"{self._name} {said}") from error

    def _follow(self, activations: Activations) -> None:
        draws = np.random.default_rng(self.setting.seed).random(len(activations.expert))
        weights = self.setting.weights(active_experts_of(self.steps)).tolist()
        for step, experts in enumerate(self.steps):
            needed, launches = set(experts), dict[int, int]()
            self.state[THIS_PASS, 0] = step
            weight_of = {expert: weights.pop(0) for expert in sorted(needed)}
            if self.policy.shared_buffers() is not None:
                self.residents = set()
            order = self._order(needed)
            opened = sum(expert in self.residents for expert in order)
            for place, expert in enumerate(order):
                at = self.now
                assert activations.expert[at] == expert, self._said(
                    step, expert, "is not next in turn"
                )
                hit, victim = bool(activations.hit[at]), int(activations.victim[at])
                assert hit == (expert in self.residents), self._said(step, expert, "hit or miss?")
                wait, launch = -1, self._launch(launches, place, opened)
                self.policy.before_activation(expert, hit, step, 0, weight_of[expert], self.state)
                if not hit:
                    self._judge(step, expert, victim, (needed, order, launches), draws[at])
                    wait = launches.get(victim, -1)
                    self.residents = (self.residents - {victim}) | {expert}
                    launch += wait == launch
                elif victim >= 0:
                    raise AssertionError(self._said(step, expert, f"is a hit and evicts {victim}"))
                found = (int(activations.wait[at]), int(activations.launch[at]))
                assert found == (wait, launch), self._said(step, expert, f"wait, launch: {found}")
                assert len(self.residents) <= self._slots, self._said(step, expert, "no slot")
                launches[expert] = launch
                self._used(expert, step, victim, loaded=not hit)
        assert self.now == len(activations.expert), "there are more activations than needed experts"

    def _order(self, needed: set[int]) -> list[int]:
        first = needed & self.residents if self.setting.resident_first else needed
        return sorted(first) + sorted(needed - first)

    def _launch(self, launches: dict[int, int], place: int, opened: int) -> int:
        """The launch of the coming activation, but for what its own copy waits for."""
        last = max(launches.values(), default=0)
        new = self.setting.serial or (self.setting.resident_first and place == opened)
        return last + (place > 0 and new)

    def _judge(
        self,
        step: int,
        expert: int,
        victim: int,
        context: tuple[set[int], list[int], dict[int, int]],
        draw: float,
    ) -> None:
        """Whether ``victim`` is the one that rules (a), (b), (c) and the policy give."""
        needed, order, launches = context
        if len(self.residents) < self._slots:
            assert victim == -1, self._said(step, expert, f"evicts {victim}, with a slot free")
            return
        candidates = sorted(self.residents - needed) or sorted(self.residents & set(launches))
        if not candidates:
            candidates = [[e for e in order if e in self.residents][-1]]
        said = self._said(step, expert, f"evicts {victim}, of the candidates {candidates}")
        assert victim in candidates, said
        least = min(candidates, key=lambda e: (self._key(e, candidates, draw), e))
        assert victim == least, f"{said}; the least key has {least}"

    def _key(self, expert: int, candidates: list[int], draw: float) -> int:
        position = candidates.index(expert)
        before = self.state.copy()
        value = int(self.policy.key(expert, self.state, draw, position, len(candidates)))
        assert np.array_equal(before, self.state), f"{self._name}: the key changes the state"
        return value

    def _used(self, expert: int, step: int, victim: int, *, loaded: bool) -> None:
        self.state[LAST_USE, expert], self.state[LAST_PASS, expert] = self.now, step
        self.state[FREQUENCY, expert] += 1
        self.state[NEXT_USE, expert] = self._next_use(expert, step + 1)
        if loaded:
            self.state[INSERTED, expert] = self.now
        self.policy.after_activation(expert, not loaded, victim, self.now, self.state)
        self.now += 1

    def _next_use(self, expert: int, first: int) -> int:
        for step in range(first, len(self.steps)):
            if expert in self.steps[step]:
                return step * STEP + expert
        return NEVER

    @property
    def _name(self) -> str:
        return type(self.policy).__name__

    def _said(self, step: int, expert: int, what: str) -> str:
        return f"{self._name}, {self.setting.slots} slots, step {step}, expert {expert}: {what}"
