"""What the host takes to read weights and to compute with them."""

from __future__ import annotations

import numpy as np

from moesim.hardware.described.host import Host
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.parts import Amount, Detail, Part
from moesim.hardware.profile import HardwareProfile

INTERLEAVED = "_r4"
"""Ends the name of a format with four rows interleaved, as many bytes and the same kernels."""
CORE_RATE = 4e10
"""Operations a second of one core (prior: AVX2 at a third of its peak; the same source's one core
reached 86e9 on weights that lay in its cache)."""
CORE_CLOCK_HZ = 3.5e9
"""Prior: servers have some 3 GHz while all cores compute, desktops 4 to 5."""


def core_rate(profile: HardwareProfile, dtype: str | None, rows: Floats) -> Floats:
    """Operations a second of a core in products of so many ``rows`` [n] with ``dtype`` weights
    (None: 16-bit ones): the host's own, or what the software's kernels do in a cycle of its clock,
    by its vectors, or the prior. What a product takes is a line from each number of rows that the
    software's table has to the next, and to none; beyond the last it grows with the rows.
    """
    host = profile.host
    if host.core_rate is not None:
        return np.full(rows.shape, host.core_rate.value)
    name = (dtype or "bf16").removesuffix(INTERLEAVED)
    known = sorted((many, of[name]) for many, of in profile.core_products.items() if name in of)
    if not known:
        return np.full(rows.shape, CORE_RATE)
    many, cycle = (np.array(column) for column in zip((0, 1.0), *known, strict=True))
    clock = host.core_clock.value if host.core_clock else CORE_CLOCK_HZ
    if host.vectors is not None and host.vectors.value == "avx2":
        clock *= profile.avx2_products
    count = np.clip(rows, 1.0, many[-1])
    found: Floats = clock * count / np.interp(count, many, many / cycle)
    return found


def longest_on_host(
    host: Host, sharing: int, size: Floats | np.float64, operations: Floats, of_core: Floats
) -> Part:
    """The longer of reading ``size`` bytes and of ``operations`` at ``of_core`` a second and core,
    for each of the ``sharing`` GPUs that share a NUMA node.
    """
    read = np.asarray(size * NS / host.expert_bytes_per_second)
    rate = host.expert_threads * of_core
    computed = operations * NS / rate

    def both() -> Detail:
        share = host.expert_share.value
        dram, most = host.expert_peak * share, host.thread_bytes_per_second
        reads = _reads("reads", size, sharing, host.expert_peak, share)
        threads = [_reads("threads", size, sharing, most, 1.0)] if most < dram else []
        times = computed * sharing
        peak = float(rate.max(initial=0.0))
        products = Amount("products", times, operations, "FLOP", peak, 1 / sharing)
        return Detail((reads, *threads, products))

    return Part(np.maximum(read, computed) * sharing, name="reads and products", of=both)


def _reads(name: str, size: Floats | np.float64, sharing: int, peak: float, share: float) -> Amount:
    """Reading ``size`` bytes at a share of ``peak``, of which each of the GPUs has its part."""
    time_ns = np.asarray(size * NS / (peak * share) * sharing)
    return Amount(name, time_ns, np.asarray(size), "B", peak, share / sharing)
