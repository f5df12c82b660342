"""Experts computed by the host's cores beside a GPU, or by more than one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.ops.experts_serial import serial_columns, serial_trial
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import SECOND, Point, Trial
from moesim.calibrate.collect.shapes import ExpertShape

ROWS = (1, 2, 4, 8, 16, 64)


class CpuExperts(Collector):
    """``cpu_expert``: one expert on 1 core and on all; the column ``threads`` says how many."""

    kind = "experts_cpu"
    ops = ("cpu_expert",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        for dtype in plan.dtypes:
            for shape in dict.fromkeys((s.hidden, s.inter, s.gated) for s in plan.shapes.experts):
                hidden, inter, gated = shape
                expert = ExpertShape(hidden, inter, 1, 1, gated)
                for rows in ROWS:
                    for threads in dict.fromkeys((1, plan.cores)):
                        yield _point(expert, rows, dtype, threads)


def _point(shape: ExpertShape, rows: int, dtype: str, threads: int) -> Point:
    columns = serial_columns(shape, rows, dtype)
    columns |= {"op": "cpu_expert", "threads": threads, "l2_warm": False}
    columns["kernel_source"] = f"torch-{threads}t"
    size = shape.elements * ELEMENT_BYTES[dtype]
    return Point(columns, partial(_trial, shape, rows, dtype, threads), SECOND, size)


class _Threads:
    """A trial with its own number of threads; the host's is set again after each part."""

    def __init__(self, trial: Trial, host: Device, threads: int) -> None:
        self.trial, self.host, self.threads = trial, host, threads

    def warm_up(self) -> None:
        """See ``Trial``."""
        with self._own():
            self.trial.warm_up()

    def samples(self, count: int) -> list[float]:
        """See ``Trial``."""
        with self._own():
            return self.trial.samples(count)

    @contextmanager
    def _own(self) -> Iterator[None]:
        torch = self.host.pool.torch
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(self.host.threads)


def _trial(shape: ExpertShape, rows: int, dtype: str, threads: int, device: Device) -> Trial:
    return _Threads(serial_trial(shape, rows, dtype, False, device.host), device.host, threads)
