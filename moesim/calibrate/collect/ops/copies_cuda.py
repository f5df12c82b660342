"""Copies between host and GPUs and between GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import Call, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.ops.copies_host import model_sizes
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, Point, Trial
from moesim.calibrate.collect.trial import RepeatedTrial

SIZES = tuple(256 * 4**power for power in range(11))
"""256 B to 256 MiB."""


class CudaCopies(Collector):
    """``copy_h2d`` and ``copy_d2h`` of one GPU and of all at once; ``copy_p2p`` of each pair.

    ``bytes`` are those of one GPU. All at once copy pinned memory, as pageable copies wait for each
    other. Where all copy at once and the time grows, they share a switch
    or the host's memory. The column ``pair`` names the GPUs of a peer copy.
    """

    kind = "copies_cuda"
    ops = ("copy_h2d", "copy_d2h", "copy_p2p")

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        if plan.on_cpu:
            return
        for gpus in dict.fromkeys((1, plan.gpus)):
            for op in ("copy_h2d", "copy_d2h"):
                for pinned in (True, False) if gpus == 1 else (True,):
                    for size in (*model_sizes(plan), *SIZES):
                        yield _host_point(op, size, gpus, pinned)
        for source in range(plan.gpus):
            for target in (gpu for gpu in range(plan.gpus) if gpu != source):
                for size in SIZES:
                    yield Point(
                        {
                            "op": "copy_p2p",
                            "bytes": size,
                            "gpus": 2,
                            "pair": f"{source}-{target}",
                            "kernel_source": "cudaMemcpyPeer",
                        },
                        partial(_peer_trial, source, target, size),
                        SECOND,
                    )


def _host_point(op: str, size: int, gpus: int, pinned: bool) -> Point:
    columns = {"op": op, "bytes": size, "gpus": gpus, "pinned": pinned}
    trial = partial(_host_trial, op, size, gpus, pinned)
    priority = FIRST if pinned and gpus == 1 else SECOND
    return Point(columns | {"kernel_source": "cudaMemcpyAsync"}, trial, priority)


def _host_trial(op: str, size: int, gpus: int, pinned: bool, device: Device) -> Trial:
    """Pinned copies of one GPU by its own clock; others, in which the host takes part, by its."""
    calls = [_host_call(op, size, gpu, pinned, device) for gpu in range(gpus)]
    if gpus == 1:
        return RepeatedTrial(calls[0], device.time if pinned else device.wall)

    def together() -> None:
        for call in calls:
            call()

    return RepeatedTrial(together, device.wall)


def _host_call(op: str, size: int, gpu: int, pinned: bool, device: Device) -> Call:
    host = device.buffer(f"host-{gpu}", size, pinned)
    own = device.buffer(f"gpu-{gpu}", size)
    target, source = (own, host) if op == "copy_h2d" else (host, own)
    return partial(target.copy_, source, non_blocking=pinned)


def _peer_trial(source: int, target: int, size: int, device: Device) -> Trial:
    start, end = device.buffer(f"gpu-{source}", size), device.buffer(f"gpu-{target}", size)
    return RepeatedTrial(partial(end.copy_, start, non_blocking=True), device.wall)
