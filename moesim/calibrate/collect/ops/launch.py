"""What starting a kernel costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import Point, Trial
from moesim.calibrate.collect.trial import CallTrial, RepeatedTrial

LAUNCHES = 200


class Launch(Collector):
    """``launch``: an addition to a single number, from the host and in a replayed CUDA graph.

    On a CPU its code comes from memory, as after a layer's experts.
    """

    kind = "launch"
    ops = ("launch",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        yield Point({"op": "launch", "kernel_source": "eager"}, _eager)
        if not plan.on_cpu:
            yield Point({"op": "launch", "kernel_source": "graph"}, _graph)


def _eager(device: Device) -> Trial:
    number = device.pool.fresh(1, dtype="fp32")
    if device.kind == "cpu":
        return CallTrial(device, lambda _: partial(number.add_, 1), "fp32", 1)

    def call() -> None:
        for _ in range(LAUNCHES):
            number.add_(1)

    return RepeatedTrial(call, device.wall, LAUNCHES)


def _graph(device: Device) -> Trial:
    torch, number = device.pool.torch, device.pool.fresh(1, dtype="fp32")
    number.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            number.add_(1)
    return RepeatedTrial(graph.replay, device.time, LAUNCHES)
