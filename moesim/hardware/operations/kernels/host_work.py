"""What the host takes to read weights and to compute with them."""

from __future__ import annotations

import numpy as np

from moesim.hardware.described.host import Host
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.parts import Amount, Detail, Part

START_NS = 8_000
"""Handing one expert to the threads and back: a Ryzen 9 7950X takes 48.7 us for one expert of
2.86 MB and 40.3 us for each further one (everett6/moe-prefetch x2_cpu_expert_cost, 16 threads)."""
CORE_RATE = 4e10
"""Operations a second of one core (prior: AVX2 at a third of its peak; the same source's one core
reached 86e9 on weights that lay in its cache)."""


def longest_on_host(
    host: Host, sharing: int, size: Floats | np.float64, operations: Floats
) -> Part:
    """The longer of reading ``size`` bytes and of ``operations``, for each of the ``sharing`` GPUs
    that share a NUMA node.
    """
    read = np.asarray(size * NS / host.expert_bytes_per_second)
    rate = host.expert_threads * (host.core_rate.value if host.core_rate else CORE_RATE)
    computed = operations * NS / rate

    def both() -> Detail:
        share = host.expert_share.value
        dram, most = host.expert_peak * share, host.thread_bytes_per_second
        reads = _reads("reads", size, sharing, host.expert_peak, share)
        threads = [_reads("threads", size, sharing, most, 1.0)] if most < dram else []
        times = computed * sharing
        products = Amount("products", times, operations, "FLOP", rate, 1 / sharing)
        return Detail((reads, *threads, products))

    return Part(np.maximum(read, computed) * sharing, name="reads and products", of=both)


def _reads(name: str, size: Floats | np.float64, sharing: int, peak: float, share: float) -> Amount:
    """Reading ``size`` bytes at a share of ``peak``, of which each of the GPUs has its part."""
    time_ns = np.asarray(size * NS / (peak * share) * sharing)
    return Amount(name, time_ns, np.asarray(size), "B", peak, share / sharing)
