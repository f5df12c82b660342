"""One expert's network at a time, as eager frameworks run experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from moesim.calibrate.collect.device import ELEMENT_BYTES, Call, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, THIRD, Point, Trial
from moesim.calibrate.collect.shapes import ExpertShape
from moesim.calibrate.collect.trial import CallTrial, Take

COARSE, FINE = (1, 2, 4, 8, 16, 32, 64, 128), (3, 6, 12, 24, 48, 96, 192, 256, 384)
KERNEL = "torch-serial"


class SerialExperts(Collector):
    """``moe`` with one expert: gate, up, activation, product, down as plain torch calls.

    Beside the models' shapes, neighbours half and twice as wide, so that a fit sees more than one.
    """

    kind = "experts_serial"
    ops = ("moe",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        shapes = dict.fromkeys((s.hidden, s.inter, s.gated) for s in plan.shapes.experts)
        for dtype in plan.dtypes:
            for hidden, inter, gated in shapes:
                shape = ExpertShape(hidden, inter, 1, 1, gated)
                yield from _points(shape, COARSE, dtype, FIRST)
                yield from _points(shape, FINE, dtype, SECOND)
                for other in (inter // 2, inter * 2):
                    if other and (hidden, other, gated) not in shapes:
                        shape = ExpertShape(hidden, other, 1, 1, gated)
                        yield from _points(shape, COARSE, dtype, THIRD, (False,))


def _points(
    shape: ExpertShape,
    all_rows: tuple[int, ...],
    dtype: str,
    priority: int,
    caches: tuple[bool, ...] = (False, True),
) -> Iterator[Point]:
    for rows in all_rows:
        for warm in caches:
            yield Point(
                columns=serial_columns(shape, rows, dtype) | {"l2_warm": warm},
                prepare=partial(serial_trial, shape, rows, dtype, warm),
                priority=priority,
                operand_bytes=shape.elements * ELEMENT_BYTES[dtype],
            )


def serial_columns(shape: ExpertShape, rows: int, dtype: str) -> dict[str, Any]:
    """The columns of one expert over ``rows``."""
    return {
        "op": "moe",
        "dtype": dtype,
        "tokens": rows,
        "hidden": shape.hidden,
        "inter": shape.inter,
        "experts": 1,
        "top_k": 1,
        "distinct_experts": 1,
        "gated": shape.gated,
        "kernel_source": KERNEL,
    }


def serial_trial(shape: ExpertShape, rows: int, dtype: str, warm: bool, device: Device) -> Trial:
    """One expert over ``rows`` that were just written; ``warm`` is about its weights."""
    size = shape.elements * ELEMENT_BYTES[dtype]
    return CallTrial(device, serial_build(shape, rows, dtype, device), dtype, size, warm)


def serial_build(
    shape: ExpertShape, rows: int, dtype: str, device: Device
) -> Callable[[Take], Call]:
    """Makes calls of one expert with weights [out, in], as ``torch.nn.Linear`` keeps them."""
    functional = device.pool.torch.nn.functional
    linear, silu = functional.linear, functional.silu
    x = device.pool.fresh(rows, shape.hidden, dtype=dtype)

    def gated(take: Take) -> Call:
        gate, up = take(shape.inter, shape.hidden), take(shape.inter, shape.hidden)
        down = take(shape.hidden, shape.inter)
        return lambda: linear(silu(linear(x, gate)) * linear(x, up), down)

    def plain(take: Take) -> Call:
        first, second = take(shape.inter, shape.hidden), take(shape.hidden, shape.inter)
        return lambda: linear(functional.relu(linear(x, first)), second)

    return gated if shape.gated else plain
