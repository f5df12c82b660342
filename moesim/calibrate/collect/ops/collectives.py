"""All-to-all and all-reduce by NCCL, one process a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import SECOND, Point, Trial
from moesim.calibrate.collect.ranks import Ranks, ranks_of

SIZES = tuple(1024 * 4**power for power in range(10))
"""1 KiB to 256 MiB, of one GPU."""


class Collectives(Collector):
    """``all_reduce`` and ``all_to_all`` over 2, 4, 8 ... GPUs; none where there is one."""

    kind = "collectives"
    ops = ("all_reduce", "all_to_all")

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        worlds = [2**power for power in range(1, plan.gpus.bit_length()) if 2**power < plan.gpus]
        for gpus in (*worlds, *([plan.gpus] if plan.gpus > 1 else [])):
            for op in self.ops:
                for size in SIZES:
                    columns = {"op": op, "bytes": size, "gpus": gpus, "nodes": 1}
                    trial = partial(_trial, op, size, gpus)
                    yield Point(columns | {"kernel_source": "nccl"}, trial, SECOND)


class RanksTrial:
    """Times a collective in its processes."""

    def __init__(self, ranks: Ranks, op: str, size: int) -> None:
        self.ranks, self.op, self.size = ranks, op, size

    def warm_up(self) -> None:
        """See ``Trial``."""
        self.ranks.times(self.op, self.size, 1)

    def samples(self, count: int) -> list[float]:
        """See ``Trial``."""
        return self.ranks.times(self.op, self.size, count)


def _trial(op: str, size: int, gpus: int, device: Device) -> Trial:
    del device  # each process has its own
    return RanksTrial(ranks_of("nccl", gpus), op, size)
