"""What every cache policy keeps, whatever its order (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moesim.memory.policy import CachePolicy
from moesim.memory.residency import LayerCache, next_uses
from moesim.memory.turns import Turns
from moesim.testing.audit import Audit, Setting
from moesim.testing.traces import needs_of

Steps = Sequence[Sequence[int]]


def turns_of(policy: CachePolicy, steps: Steps, setting: Setting) -> Turns:
    """The turns of ``policy`` on ``steps``, the needed experts of each."""
    cache, needs = _cache(policy, steps, setting), needs_of(steps)
    return cache.decide(needs, next_uses(needs, setting.experts)[0], setting.weights(needs))


def misses_of(policy: CachePolicy, steps: Steps, setting: Setting) -> int:
    """How many turns of ``steps`` had to load their expert."""
    return int((~turns_of(policy, steps, setting).hit).sum())


def keeps_the_rules(policy: CachePolicy, steps: Steps, setting: Setting) -> None:
    """Turns in execution order; a miss is what is not resident; victims are candidates.

    Among the candidates of rules (a) and (b) the victim is the one with the policy's least key, of
    equals the lowest id: the compiled decisions are compared with ``policy.key`` called from
    Python. Residents never exceed the slots; waves and waits follow from the victims.
    """
    Audit(policy, steps, setting).verify(turns_of(policy, steps, setting))


def is_deterministic(policy: CachePolicy, steps: Steps, setting: Setting) -> None:
    """Equal inputs and draws give equal turns."""
    _assert_equal(policy, turns_of(policy, steps, setting), turns_of(policy, steps, setting))


def carries_its_state(policy: CachePolicy, steps: Steps, setting: Setting, cut: int) -> None:
    """Steps decided in two parts, cut before step ``cut``, get the turns of one part."""
    needs, cache = needs_of(steps), _cache(policy, steps, setting)
    after, weights = next_uses(needs, setting.experts)[0], setting.weights(needs)
    turn = int(needs.offsets[cut])
    first = cache.decide(needs_of(steps[:cut]), after[:turn].copy(), weights[:turn])
    second = cache.decide(needs_of(steps[cut:]), after[turn:].copy(), weights[turn:])
    names = ("expert", "hit", "wave", "wait", "victim", "place")
    joined = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in names)
    _assert_equal(policy, turns_of(policy, steps, setting), Turns(*joined))


def residents_after(policy: CachePolicy, steps: Steps, setting: Setting) -> list[set[int]]:
    """The experts that are resident after each of ``steps``."""
    cache, needs = _cache(policy, steps, setting), needs_of(steps)
    after, weights = next_uses(needs, setting.experts)[0], setting.weights(needs)
    residents = []
    for index, step in enumerate(steps):
        low, high = needs.offsets[index : index + 2]
        cache.decide(needs_of([step]), after[low:high].copy(), weights[low:high])
        residents.append(set(np.flatnonzero(cache.resident).tolist()))
    return residents


def _cache(policy: CachePolicy, steps: Steps, setting: Setting) -> LayerCache:
    return LayerCache(
        policy,
        setting.slots,
        setting.usage,
        serial=setting.serial,
        resident_first=setting.resident_first,
        draws=setting.draws(needs_of(steps)),
        resident=np.array(setting.initial, np.int64) if setting.initial else None,
        first_use=next_uses(needs_of(steps), setting.experts)[1],
    )


def _assert_equal(policy: CachePolicy, one: Turns, other: Turns) -> None:
    for name, values in vars(one).items():
        same = np.array_equal(values, getattr(other, name))
        assert same, f"{type(policy).__name__}: '{name}' of the turns differs between equal runs"
