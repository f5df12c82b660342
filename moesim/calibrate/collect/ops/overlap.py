"""Experts that run while a large copy comes in: how much the copy slows them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, Call, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.ops.experts_serial import KERNEL, serial_build, serial_columns
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import SECOND, Point, Trial
from moesim.calibrate.collect.shapes import ExpertShape
from moesim.calibrate.collect.trial import CallTrial, Take
from moesim.config.amounts.sizes import MIB

ROWS = (1, 16, 128)
COPY_BYTES = 64 * MIB


class Overlap(Collector):
    """``moe`` with one expert while pinned memory is copied to the GPU on another stream.

    Beside the same rows of ``torch-serial``. Not on a CPU, where a copy is a call like another.
    """

    kind = "overlap"
    ops = ("moe",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        if plan.on_cpu:
            return
        for dtype in plan.dtypes:
            for hidden, inter, gated in dict.fromkeys(
                (s.hidden, s.inter, s.gated) for s in plan.shapes.experts
            ):
                shape = ExpertShape(hidden, inter, 1, 1, gated)
                for rows in ROWS:
                    columns = serial_columns(shape, rows, dtype) | {"l2_warm": False}
                    yield Point(
                        columns | {"kernel_source": f"{KERNEL}+copy"},
                        partial(_trial, shape, rows, dtype),
                        SECOND,
                        shape.elements * ELEMENT_BYTES[dtype],
                    )


def _trial(shape: ExpertShape, rows: int, dtype: str, device: Device) -> Trial:
    cuda = device.pool.torch.cuda
    side = cuda.Stream()
    source = device.buffer("host-0", COPY_BYTES, pinned=True)
    target = device.buffer("gpu-0", COPY_BYTES)
    experts = serial_build(shape, rows, dtype, device)

    def build(take: Take) -> Call:
        expert = experts(take)

        def call() -> None:
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                target.copy_(source, non_blocking=True)
            expert()

        return call

    return CallTrial(device, build, dtype, shape.elements * ELEMENT_BYTES[dtype])
