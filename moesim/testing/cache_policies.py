"""What every cache policy keeps, whatever its order (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moesim.memory.activations import Activations
from moesim.memory.policy import CachePolicy
from moesim.memory.slots.residency import Given, LayerCache, next_uses
from moesim.testing.audit import Audit, Setting
from moesim.testing.traces import active_experts_of

Steps = Sequence[Sequence[int]]


def activations_of(policy: CachePolicy, steps: Steps, setting: Setting) -> Activations:
    """The activations of ``policy`` on ``steps``, the needed experts of each."""
    cache, active = _cache(policy, steps, setting), active_experts_of(steps)
    return cache.decide(active, next_uses(active, setting.experts)[0], setting.weights(active))


def misses_of(policy: CachePolicy, steps: Steps, setting: Setting) -> int:
    """How many activations of ``steps`` had to load their expert."""
    return int((~activations_of(policy, steps, setting).hit).sum())


def keeps_the_rules(policy: CachePolicy, steps: Steps, setting: Setting) -> None:
    """Activations in execution order; a miss is what is not resident; victims are candidates.

    Among the candidates of rules (a) and (b) the victim is the one with the policy's least key, of
    equals the lowest id: the compiled decisions are compared with ``policy.key`` called from
    Python. Residents never exceed the slots; launches and waits follow from the victims.
    """
    Audit(policy, steps, setting).verify(activations_of(policy, steps, setting))


def is_deterministic(policy: CachePolicy, steps: Steps, setting: Setting) -> None:
    """Equal inputs and draws give equal activations."""
    _assert_equal(
        policy, activations_of(policy, steps, setting), activations_of(policy, steps, setting)
    )


def carries_its_state(policy: CachePolicy, steps: Steps, setting: Setting, cut: int) -> None:
    """Steps decided in two parts, cut before step ``cut``, get the activations of one part."""
    active, cache = active_experts_of(steps), _cache(policy, steps, setting)
    after, weights = next_uses(active, setting.experts)[0], setting.weights(active)
    activation = int(active.offsets[cut])
    first = cache.decide(
        active_experts_of(steps[:cut]), after[:activation].copy(), weights[:activation]
    )
    second = cache.decide(
        active_experts_of(steps[cut:]), after[activation:].copy(), weights[activation:]
    )
    joined = Activations.joined([first, second])
    _assert_equal(policy, activations_of(policy, steps, setting), joined)


def residents_after(policy: CachePolicy, steps: Steps, setting: Setting) -> list[set[int]]:
    """The experts that are resident after each of ``steps``."""
    cache, active = _cache(policy, steps, setting), active_experts_of(steps)
    after, weights = next_uses(active, setting.experts)[0], setting.weights(active)
    residents = []
    for index, step in enumerate(steps):
        low, high = active.offsets[index : index + 2]
        cache.decide(active_experts_of([step]), after[low:high].copy(), weights[low:high])
        residents.append(set(np.flatnonzero(cache.resident).tolist()))
    return residents


def _cache(policy: CachePolicy, steps: Steps, setting: Setting) -> LayerCache:
    return LayerCache(
        policy,
        setting.slots,
        setting.usage,
        serial=setting.serial,
        resident_first=setting.resident_first,
        given=Given(
            draws=setting.draws(active_experts_of(steps)),
            first_use=next_uses(active_experts_of(steps), setting.experts)[1],
            resident=np.array(setting.initial, np.int64) if setting.initial else None,
        ),
    )


def _assert_equal(policy: CachePolicy, one: Activations, other: Activations) -> None:
    for name, values in one._asdict().items():
        same = np.array_equal(values, getattr(other, name))
        assert same, (
            f"{type(policy).__name__}: '{name}' of the activations differs between equal runs"
        )
