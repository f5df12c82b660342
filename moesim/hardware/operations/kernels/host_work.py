"""What the host takes to read weights and to compute with them."""

from __future__ import annotations

import re

import numpy as np

from moesim.hardware.described.host import Host
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.parts import Amount, Detail, Part
from moesim.hardware.profile import HardwareProfile

INTERLEAVED = re.compile(r"_r\d+$")
"""Ends the name of a format with that many rows interleaved: as many bytes, kernels of its own."""
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
    name = dtype or "bf16"
    known = _known(profile, name) or _known(profile, INTERLEAVED.sub("", name))
    if not known:
        return np.full(rows.shape, CORE_RATE)
    many, cycle = (np.array(column) for column in zip((0, 1.0), *known, strict=True))
    clock = host.core_clock.value if host.core_clock else CORE_CLOCK_HZ
    if host.vectors is not None and host.vectors.value == "avx2":
        clock *= profile.avx2_products
    count = np.clip(rows, 1.0, many[-1])
    found: Floats = clock * count / np.interp(count, many, many / cycle)
    return found


def _known(profile: HardwareProfile, name: str) -> list[tuple[int, float]]:
    """Rows and operations a cycle of the format ``name``."""
    return sorted((many, of[name]) for many, of in profile.core_products.items() if name in of)


def read_and_computed(
    host: Host, sharing: int, size: Floats | np.float64, operations: Floats, of_core: Floats
) -> Part:
    """What the threads take to read ``size`` bytes, of which memory or they themselves give so many
    a second, and to compute ``operations`` of them at ``of_core`` a second, which partly hides the
    other: the root of the sum of both squares; for each of the ``sharing`` GPUs that share a NUMA
    node.

    One thread of a virtual EPYC of the third generation, which reads 20 GB/s by itself, is met so
    to 3 % in the median, and to 17 % in nine of ten, in 46 formats of ik_llama.cpp (12 interleaved)
    and 22 of llama.cpp; the longer of both would be 6 and 34 % off, their sum 33 and 41 %.
    """
    threads, reads = host.expert_threads, size * NS
    memory = np.asarray(reads / (host.expert_peak * host.expert_share.value))
    own = np.asarray(reads / (threads * host.thread_bytes_per_second))
    computed = operations * NS / (threads * of_core)

    def both() -> Detail:
        read = _reads("reads", size, sharing, host.expert_peak, host.expert_share.value)
        of_threads = Amount("reads of threads", own * sharing)
        return Detail((read, of_threads, Amount("products", computed * sharing)))

    time_ns = np.hypot(np.maximum(memory, own), computed) * sharing
    return Part(time_ns, name="reads and products", of=both)


def _reads(name: str, size: Floats | np.float64, sharing: int, peak: float, share: float) -> Amount:
    """Reading ``size`` bytes at a share of ``peak``, of which each of the GPUs has its part."""
    time_ns = np.asarray(size * NS / (peak * share) * sharing)
    return Amount(name, time_ns, np.asarray(size), "B", peak, share / sharing)
