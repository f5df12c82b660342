"""Where missing experts are computed, decided one activation after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.memory.activations import ActiveExperts
from moesim.memory.forms import IN_SLOT
from moesim.memory.misses import registry
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.residency import Given, LayerCache

OTHER = 1
"""The second form of those that have two."""


def active_experts(*steps):
    offsets = np.concatenate([[0], np.cumsum([len(step) for step in steps])])
    return ActiveExperts(
        offsets.astype(np.int64), np.concatenate([np.array(s, np.int64) for s in steps])
    )


def decided(miss, steps, *, slots=2, resident=(), prices=None, **choices):
    cache = LayerCache(
        Lru(),
        slots,
        np.zeros(6, np.int64),
        serial=False,
        resident_first=choices.get("resident_first", False),
        given=Given(resident=np.array(resident, np.int64)),
        miss=miss,
    )
    offered = None if prices is None else np.array(prices, np.int64)
    return cache, cache.decide(active_experts(*steps), prices=offered)


def test_every_way_is_registered():
    assert {"cheapest", "cpu", "load", "zero_copy"} <= set(registry.components)


def test_the_host_computes_what_is_missing_and_the_slots_stay():
    cache, activations = decided(registry.get("cpu")(), [[0, 1, 2], [1, 3]], resident=[1, 3])
    assert activations.hit.tolist() == [False, True, False, True, True]
    assert activations.form.tolist() == [OTHER, IN_SLOT, OTHER, IN_SLOT, IN_SLOT]
    assert activations.launch.tolist() == [-1, 0, -1, 0, 0]
    assert np.flatnonzero(cache.resident).tolist() == [1, 3]


def test_zero_copy_activations_are_in_launches_and_take_no_slot():
    cache, activations = decided(registry.get("zero_copy")(), [[0, 1, 2], [0]], resident=[1])
    assert activations.form.tolist() == [OTHER, IN_SLOT, OTHER, OTHER]
    assert activations.launch.tolist() == [0, 0, 0, 0]
    assert not activations.hit[3]
    assert np.flatnonzero(cache.resident).tolist() == [1]


def test_the_sooner_of_both_in_turn():
    """Copy and kernel 10 + 2 against the host's 9: the first goes to the host, which then needs 18
    for two, so the second is loaded, the third (22 against 18) is the host's.
    """
    prices = [[10] * 3, [2] * 3, [9] * 3]
    _, activations = decided(registry.get("cheapest")(), [[0, 1, 2]], slots=6, prices=prices)
    assert activations.form.tolist() == [OTHER, IN_SLOT, OTHER]


def test_equal_times_are_loaded_and_each_step_begins_anew():
    prices = [[10] * 2, [2] * 2, [12] * 2]
    _, activations = decided(registry.get("cheapest")(), [[0], [1]], slots=6, prices=prices)
    assert activations.form.tolist() == [IN_SLOT, IN_SLOT]


@pytest.mark.parametrize(("uploads", "loads"), [(0, 0), (1, 1), (2, 2), (None, 3)])
def test_uploads_bound_the_loads_of_a_step(uploads, loads):
    prices = [[1] * 3, [0] * 3, [1000] * 3]
    cheapest: Any = registry.get("cheapest")
    miss = cheapest(uploads=uploads)
    _, activations = decided(miss, [[0, 1, 2]], slots=6, prices=prices)
    assert (activations.form == IN_SLOT).sum() == loads


def test_launches_form_as_if_the_hosts_activations_were_not_there():
    """Residents 1 and 3 first, then 0 (loaded, a launch of its own) and 2 (the host's)."""
    prices = [[1, 1, 50, 1], [0] * 4, [100, 100, 2, 100]]
    _, activations = decided(
        registry.get("cheapest")(),
        [[0, 1, 2, 3]],
        slots=4,
        resident=[1, 3],
        prices=prices,
        resident_first=True,
    )
    assert activations.expert.tolist() == [1, 3, 0, 2]
    assert activations.launch.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("experts", "told"),
    [
        (np.array([0, 1, 2, 1], np.int32), r"experts is int32, contiguous; give np.ascontig"),
        (np.array([0, 9, 1, 9, 2, 9, 1, 9])[::2], r"experts is int64, not contiguous; give"),
    ],
)
def test_arrays_that_compiled_code_would_misread_are_told(experts, told):
    cache = LayerCache(Lru(), 2, np.zeros(6, np.int64), serial=False, resident_first=False)
    with pytest.raises(InputError, match=told):
        cache.decide(ActiveExperts(np.array([0, 4]), experts))
