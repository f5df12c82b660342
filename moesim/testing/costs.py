"""What every priced operation keeps."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from moesim.hardware.charge import Setting, Shapes
from moesim.hardware.operation import Operation
from moesim.model.spec import LayerSpec

PLAIN = Setting(group=1, uneven=True, masks=False, decides_on_device=False)


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
    provenance = np.asarray(operation.provenance(price, *shape))
    assert (provenance >= 0).all(), f"{name}: rests on less than nothing"
    assert np.isclose(provenance.sum(), price.sum()), (
        f"{name}: rests on {provenance}, not on its price"
    )


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


def shapes_of(tokens: list[int], setting: Setting = PLAIN, experts: int = 8) -> Shapes:
    """Passes of one GPU that decode so many ``tokens`` each, every one at 100 tokens of context."""
    count = np.array(tokens, np.int64)
    return Shapes(
        setting, 64, experts, count, count, count, count, 100 * count, 100 * count,
        sources=(50 * count, 50 * count, count), read=count, rows=2 * count, capacity=count,
    )  # fmt: skip


def charges_pass_by_pass(operation: Operation, layer: LayerSpec, shapes: Shapes) -> None:
    """At each of its places in ``layer``, a pass is charged what it would be if it were alone."""
    name = type(operation).__name__
    for charge in operation.charges:
        if not charge.when(shapes.setting, layer):
            continue
        price = operation.price(*charge.of(layer, shapes))
        together = np.broadcast_to(price, shapes.tokens.shape)
        for number in range(len(shapes.tokens)):
            alone = operation.price(*charge.of(layer, _pass(shapes, number)))
            what = f"{name}, {charge.stage.name}: the price of pass {number} depends on others"
            assert np.all(alone == together[number]), what


def _pass(shapes: Shapes, number: int) -> Shapes:
    """One pass of ``shapes``."""
    one = slice(number, number + 1)
    values = {field.name: getattr(shapes, field.name) for field in fields(shapes)}
    arrays: dict[str, Any] = {
        key: value[one] for key, value in values.items() if isinstance(value, np.ndarray)
    }
    return replace(shapes, **arrays, sources=tuple(sums[one] for sums in shapes.sources))
