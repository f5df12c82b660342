"""What starting a kernel costs."""

from __future__ import annotations

from collections.abc import Iterator

from moesim.calibrate.collect.device import Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import Point, Trial
from moesim.calibrate.collect.trial import RepeatedTrial

LAUNCHES = 200


class Launch(Collector):
    """``launch``: an addition to a single number, from the host and in a replayed CUDA graph."""

    kind = "launch"
    ops = ("launch",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        yield Point({"op": "launch", "kernel_source": "eager"}, _eager)
        if not plan.on_cpu:
            yield Point({"op": "launch", "kernel_source": "graph"}, _graph)


def _eager(device: Device) -> Trial:
    number = device.pool.fresh(1, dtype="fp32")

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
