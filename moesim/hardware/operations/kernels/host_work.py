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
    """What memory takes to give ``size`` bytes, or the threads to read them, each by itself, and
    then to compute ``operations``, at ``of_core`` a second, whichever is longer; for each of the
    ``sharing`` GPUs that share a NUMA node.

    One thread of a virtual EPYC of the third generation, which reads 20 GB/s by itself, reads 8.2
    to 15.7 of experts that it computes with, in six formats (llama-cpp-python 0.3.36, by timers in
    its kernels): within 18 % of this sum; were the one hidden by the other, it would be 18 to 20.
    """
    read = np.asarray(size * NS / (host.expert_peak * host.expert_share.value))
    rate, most = host.expert_threads * of_core, host.expert_threads * host.thread_bytes_per_second
    alone = operations * NS / rate + np.asarray(size * NS / most)

    def both() -> Detail:
        reads = _reads("reads", size, sharing, host.expert_peak, host.expert_share.value)
        return Detail((reads, Amount("threads", alone * sharing)))

    return Part(np.maximum(read, alone) * sharing, name="reads and products", of=both)


def _reads(name: str, size: Floats | np.float64, sharing: int, peak: float, share: float) -> Amount:
    """Reading ``size`` bytes at a share of ``peak``, of which each of the GPUs has its part."""
    time_ns = np.asarray(size * NS / (peak * share) * sharing)
    return Amount(name, time_ns, np.asarray(size), "B", peak, share / sharing)
