"""NVIDIA GPUs as a device: CUDA events as the clock, the driver's own facts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cached_property
from time import perf_counter_ns
from typing import Any

from moesim.calibrate.collect.cpu import Cpu, physical_cores
from moesim.calibrate.collect.device import CACHES, Call, Pool, torch_library
from moesim.config.amounts.sizes import MIB

HIDING_CYCLES = 10_000_000
"""A GPU sleeps this long, some milliseconds, while the host queues the calls to be timed."""
NS_PER_MS = 1e6
ASSUMED_CACHE_BYTES = 64 * MIB
"""Where this torch does not tell the L2 cache."""
QUERIED = (
    "driver_version",
    "clocks.max.sm",
    "clocks.max.memory",
    "clocks.sm",
    "power.limit",
    "pcie.link.gen.max",
    "pcie.link.width.max",
    "ecc.mode.current",
)
LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""Of one PCIe lane and direction after its coding, by generation."""


class Cuda:
    """A ``Device``: GPU 0, and the others where copies and collectives use them."""

    kind = "cuda"
    threads = 1

    def __init__(self) -> None:
        self.torch = torch_library()
        properties = self.torch.cuda.get_device_properties(0)
        self.name = str(properties.name)
        self.gpus = int(self.torch.cuda.device_count())
        self.multiprocessors = int(properties.multi_processor_count)
        self.cache_bytes = int(getattr(properties, "L2_cache_size", ASSUMED_CACHE_BYTES))
        self.memory_bytes = int(properties.total_memory)
        self.pool = Pool("cuda:0", CACHES * self.cache_bytes)
        self._buffers: dict[tuple[str, bool], Any] = {}

    @cached_property
    def host(self) -> Cpu:
        """See ``Device``."""
        host = Cpu(physical_cores())
        host.pool.reserve(self.pool.size_bytes)
        return host

    @cached_property
    def _sweep(self) -> Any:
        return self.torch.ones(2 * self.cache_bytes, dtype=self.torch.uint8, device="cuda:0")

    def time(self, calls: Sequence[Call]) -> list[float]:
        """See ``Device``.

        The GPU sleeps while the calls are queued, so that no time of the host is in theirs.
        """
        event = self.torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in calls]
        self.torch.cuda.synchronize()
        self.torch.cuda._sleep(HIDING_CYCLES)  # noqa: SLF001
        for (start, end), call in zip(pairs, calls, strict=True):
            start.record()
            call()
            end.record()
        self.torch.cuda.synchronize()
        return [start.elapsed_time(end) * NS_PER_MS for start, end in pairs]

    def wall(self, calls: Sequence[Call]) -> list[float]:
        """See ``Device``."""
        times = []
        for call in calls:
            self._wait()
            start = perf_counter_ns()
            call()
            self._wait()
            times.append(float(perf_counter_ns() - start))
        return times

    def _wait(self) -> None:
        for gpu in range(self.gpus):
            self.torch.cuda.synchronize(gpu)

    def flush(self) -> None:
        """See ``Device``."""
        self._sweep.zero_()

    def buffer(self, name: str, size: int, pinned: bool = False) -> Any:
        """See ``Device``."""
        key = (name, pinned)
        known = self._buffers.get(key)
        if known is None or known.numel() < size:
            place = name.replace("gpu-", "cuda:") if name.startswith("gpu-") else "cpu"
            self._buffers[key] = self.torch.zeros(
                size, dtype=self.torch.uint8, device=place, pin_memory=pinned
            )
        return self._buffers[key][:size]

    def facts(self) -> dict[str, Any]:
        """See ``Device``."""
        told = queried(_nvidia_smi)
        rate = _slot_rate(told)
        return {
            "cuda": str(self.torch.version.cuda),
            "multiprocessors": self.multiprocessors,
            **told,
            **({"pcie_bytes_per_s": rate} if rate else {}),
        }


def queried(ask: Callable[[], str]) -> dict[str, str]:
    """What nvidia-smi says of the first GPU, by name; empty where it is silent."""
    values = [value.strip() for value in ask().partition("\n")[0].split(",")]
    if len(values) != len(QUERIED):
        return {}
    return dict(zip(QUERIED, values, strict=True))


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, f"--query-gpu={','.join(QUERIED)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    return done.stdout if done.returncode == 0 else ""


def _slot_rate(told: dict[str, str]) -> float | None:
    generation, width = told.get("pcie.link.gen.max", ""), told.get("pcie.link.width.max", "")
    if not (generation.isdecimal() and width.isdecimal()):
        return None
    lane = LANE_BYTES_PER_S.get(int(generation))
    return lane * int(width) if lane else None
