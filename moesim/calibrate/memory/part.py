"""What was measured of a machine's memory, as the numbers of a host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moesim.calibrate.memory.measure import Reads
from moesim.config.amounts.dimensions import format_bandwidth, format_bytes

DIGITS = 4
CPU_INFO = Path("/proc/cpuinfo")
VECTORS = {"avx512_vnni": "avx512", "avx2": "avx2"}
"""What a flag of Linux says of the widest instructions of products, the widest first."""


class System(NamedTuple):
    """What the system says of the machine; ``vectors``: None where it says nothing."""

    memory_bytes: int
    numa_nodes: int
    cores: int
    vectors: str | None


def vectors_of(info: Path = CPU_INFO) -> str | None:
    """The widest instructions by ``info``, a file of Linux; None where there is none."""
    flags = set(info.read_text(encoding="utf-8").split()) if info.is_file() else set()
    return next((name for flag, name in VECTORS.items() if flag in flags), None)


def host_of(name: str, reads: Sequence[Reads], system: System, told: str) -> str:
    """The host's file: memory gives what all threads together read at best, experts reach all of
    it, and a thread reads what one does by itself; ``told``: when, on what.
    """
    best = max(one.bytes_per_second for one in reads) / system.numa_nodes
    alone = min(next(one.bytes_per_second for one in reads if one.threads == 1), best)
    lines = [
        'end_mark: "..."',
        f'title: "{name}"',
        "sources:",
        f'  read: "measured, sums of integers by up to {system.cores} threads, {told}"',
        '  system: "what the system says of it"',
        f"memory: {{value: {format_bytes(system.memory_bytes)}, source: system}}",
        f"numa_nodes: {{value: {system.numa_nodes}, source: system}}",
        f"memory_bandwidth: {{value: {_rate(best)}, source: read}}",
        "memory_fraction: {value: 100 %, source: read}",
        "expert_fraction: {value: 100 %, source: read}",
        f"cores: {{value: {system.cores}, source: system}}",
        f"thread_bandwidth: {{value: {_rate(alone)}, source: read}}",
        *([f"vectors: {{value: {system.vectors}, source: system}}"] if system.vectors else []),
        "...",
    ]
    return "\n".join(lines) + "\n"


def _rate(value: float) -> str:
    return format_bandwidth(float(f"{value:.{DIGITS}g}"))
