"""The CPU as a device: one thread by default, ``perf_counter_ns`` as its clock."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any

from moesim.calibrate.collect.device import CACHES, Call, Pool, torch_library
from moesim.config.amounts.sizes import GIB, KIB, MIB

EMPTY_CALLS = 2000
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_CACHE_BYTES = 32 * MIB
"""Assumed where the system does not tell its caches."""


class Cpu:
    """A ``Device``: torch on the host, limited to ``threads`` threads.

    With one thread, time in which the system ran something else on the core is not counted: a call
    takes the lesser of wall time and the thread's own time.
    """

    kind = "cpu"
    gpus = 0

    def __init__(self, threads: int = 1) -> None:
        self.torch = torch_library()
        self.torch.set_num_threads(threads)
        self.threads = threads
        self.name = f"{cpu_name()} ({threads} {'thread' if threads == 1 else 'threads'})"
        self.cache_bytes = last_cache_bytes() or DEFAULT_CACHE_BYTES
        self.memory_bytes = memory_bytes()
        self.pool = Pool("cpu", CACHES * self.cache_bytes)
        self._sweep = self.torch.ones(2 * self.cache_bytes // 4)
        self._own_ns = 0.0
        self._own_ns = statistics.median(self.time([_nothing] * EMPTY_CALLS))

    @property
    def host(self) -> Cpu:
        """See ``Device``."""
        return self

    def time(self, calls: Sequence[Call]) -> list[float]:
        """See ``Device``."""
        own = thread_time_ns if self.threads == 1 else perf_counter_ns
        times = []
        for call in calls:
            own_start = own()
            start = perf_counter_ns()
            call()
            wall = perf_counter_ns() - start
            times.append(min(wall, own() - own_start) - self._own_ns)
        return times

    wall = time

    def flush(self) -> None:
        """See ``Device``."""
        self._sweep.sum()

    def buffer(self, name: str, size: int, pinned: bool = False) -> Any:
        """See ``Device``."""
        return self.pool.take(size, dtype="bytes")

    def facts(self) -> dict[str, Any]:
        """See ``Device``."""
        capability = self.torch.backends.cpu.get_cpu_capability()
        return {"threads": self.threads, "multiprocessors": self.threads, "capability": capability}


def _nothing() -> None:
    return None


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    import platform

    return platform.processor() or platform.machine()


def last_cache_bytes() -> int | None:
    """Bytes of the last-level cache; None where the system does not tell."""
    sizes = [_size(index / "size") for index in CACHE.glob("index*")]
    return max(sizes, default=0) or None


def memory_bytes() -> int:
    """Bytes of the host's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def physical_cores() -> int:
    """Cores of the whole host, hyper-threads not counted where the system tells them apart."""
    pairs, package = set(), ""
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "physical id":
            package = value.strip()
        elif name.strip() == "core id":
            pairs.add((package, value.strip()))
    return len(pairs) or os.cpu_count() or 1


def numa_nodes() -> int:
    """NUMA nodes of the host."""
    return len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1


def _size(path: Path) -> int:
    text = "".join(_lines(path)).strip()
    units = {"K": KIB, "M": MIB, "G": GIB}
    number = text.rstrip("KMG")
    return int(number) * units.get(text[-1:], 1) if number.isdecimal() else 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
