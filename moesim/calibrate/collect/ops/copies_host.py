"""Copies within host memory: what stands for a GPU's copies where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, Point, Trial
from moesim.calibrate.collect.trial import CallTrial, Take

SIZES = tuple(256 * 4**power for power in range(10))
"""256 B to 64 MiB."""


class HostCopies(Collector):
    """``copy_h2d`` and ``copy_d2h`` as copies from one host tensor to one that exists.

    Cold: neither source nor target was touched before. The models' experts and matrices are among
    the sizes.
    """

    kind = "copies_host"
    ops = ("copy_h2d", "copy_d2h")

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        if not plan.on_cpu:
            return
        for size in (*model_sizes(plan), *SIZES):
            yield _point("copy_h2d", size, FIRST, warm=False)
            yield _point("copy_h2d", size, SECOND, warm=True)
        for size in SIZES:
            yield _point("copy_d2h", size, SECOND, warm=False)


def model_sizes(plan: Plan) -> list[int]:
    """Bytes of the models' experts and of one of their matrices, each once."""
    sizes = [
        count * shape.hidden * shape.inter * ELEMENT_BYTES[dtype]
        for dtype in plan.dtypes
        for shape in plan.shapes.experts
        for count in (1, shape.matrices)
    ]
    return list(dict.fromkeys(sizes))


def _point(op: str, size: int, priority: int, warm: bool) -> Point:
    columns = {"op": op, "bytes": size, "gpus": 1, "pinned": False, "kernel_source": "memcpy"}
    return Point(
        columns | {"l2_warm": warm}, partial(_trial, size, warm), priority, operand_bytes=2 * size
    )


def _trial(size: int, warm: bool, device: Device) -> Trial:
    def build(take: Take) -> partial[object]:
        target, source = take(size), take(size)
        return partial(target.copy_, source)

    return CallTrial(device, build, "bytes", 2 * size, warm)
