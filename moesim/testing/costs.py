"""What every priced operation keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.hardware.operation import Operation


def adds_up(operation: Operation, *shape: Any) -> None:
    """Its price is the sum of its parts (one may be what was measured below a formula): finite,
    never below zero; and what the price rests on is as much, none of it below zero.
    """
    name, parts = type(operation).__name__, operation.parts(*shape)
    price = np.asarray(operation.price(*shape), np.float64)
    total = np.broadcast_to(sum(np.asarray(part.time_ns) for part in parts), price.shape)
    assert np.isfinite(price).all(), f"{name}: a price is not finite"
    assert (price >= 0).all(), f"{name}: a price is below zero"
    assert np.allclose(price, total, rtol=1e-9), f"{name}: the price is not the sum of the parts"
    resting = np.asarray(operation.rests_on(price, *shape))
    assert (resting >= 0).all(), f"{name}: rests on less than nothing"
    assert np.isclose(resting.sum(), price.sum()), f"{name}: rests on {resting}, not on its price"


def remembers_nothing(operation: Operation, shape: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """The price of ``shape`` is the same after ``other`` was asked, and arguments stay as they
    are.
    """
    name, before = type(operation).__name__, [np.array(entry, copy=True) for entry in shape]
    one = np.asarray(operation.price(*shape))
    operation.price(*other)
    assert np.array_equal(one, operation.price(*shape)), f"{name}: a price depends on others"
    for entry, was in zip(shape, before, strict=True):
        assert np.array_equal(np.asarray(entry), was), f"{name} changes its arguments"
