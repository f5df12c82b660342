"""What was measured of parts of machines beside what their datasheets say."""

from __future__ import annotations

from math import exp, log, sqrt
from statistics import mean, stdev
from typing import NamedTuple


class CopyReached(NamedTuple):
    """The largest host-to-device rate that one machine's copies reached, in GB/s, of a PCIe slot's
    raw ``slot``; None: not measured.
    """

    machine: str
    slot: float
    pinned: float | None
    pageable: float | None


COPIES = (
    CopyReached("RTX 5070, Ryzen 9 7950X (everett6/moe-prefetch upload_cost)", 63.0, 35.7, 22.7),
    CopyReached("Quadro RTX 6000 (npho/cse554 assignment1 host_GPU)", 15.75, 11.9, 3.75),
    CopyReached("A100-PCIE-40GB (jdh4/della-gpu-A100 bandwidthTest)", 31.5, 26.2, None),
    CopyReached("Tesla T4, cloud (router-gao/cuda-demo)", 15.75, 9.7, None),
    CopyReached("A100-SXM4-40GB, cloud (router-gao/cuda-demo)", 31.5, 12.3, None),
    CopyReached("Tesla V100-SXM2, cloud (router-gao/cuda-demo)", 15.75, 9.6, None),
    CopyReached("a card that is not named (an nvbandwidth tutorial)", 63.0, 55.63, None),
    CopyReached("H100 PCIe, cloud (CUDA Memory Transfer Experiments)", 63.0, 25.71, 11.32),
)
"""Copies by the copy engines. Of a card whose slot is not said, that of its datasheet; the rate of
the Quadro is that of the line through its two largest sizes, as in the profiles of links.
"""


def copies_reach(slot: float, *, pinned: bool) -> tuple[float, float]:
    """The least and the most that a machine's copies reach over a PCIe ``slot``, both in GB/s:
    pinned ones the shares of their slots that others' had, pageable ones the rates, as a thread
    stages them whatever the slot, but no more than pinned ones.
    """
    shares = [one.pinned / one.slot for one in COPIES if one.pinned is not None]
    least, most = slot * min(shares), slot * max(shares)
    if pinned:
        return least, most
    staged = [one.pageable for one in COPIES if one.pageable is not None]
    return min(least, *staged), min(most, max(staged))


VERSIONS = (0.81, 1.27)
"""Between which 90 % of the times lie that one version's table of kernels has, over those of
another's: the same shape on the same card (aiconfigurator-core 0.12.0, vLLM, SGLang, TensorRT-LLM).
"""

EXPERT_PARALLEL = (0.67, 1.75)
"""Between which 90 % of the times lie that tables have of a GPU's part of the experts (a half, a
quarter, an eighth of them, all tokens gathered), over moesim's prices of as many rows on as many
experts: 47,724 evenly spread launches of H100, H200, B200 and GB200, no fit's own (aiconfigurator-
core 0.12.0, vLLM, SGLang, TensorRT-LLM).
"""


class HostReached(NamedTuple):
    """The ``share`` of its DRAM's peak at which one run of a ``host`` comes out as measured whose
    CPU computes experts.
    """

    host: str
    share: float


EXPERTS = (
    HostReached("core-i5-12600k-ddr5-6000-2ch", 0.6579),
    HostReached("core-i9-10900x-ddr4-3200-4ch", 0.4197),
    HostReached("core-i9-13900k-ddr5-4000-2ch", 0.4265),
    HostReached("epyc-7r13-ddr4-3200-8ch", 0.8183),
    HostReached("epyc-9355-16t-ddr5-6000-12ch", 0.3463),
    HostReached("ryzen-9-7950x-ddr5-5600-2ch", 0.8062),
    HostReached("xeon-8452y-2s-ddr5-4800-8ch-amx", 0.4642),
    HostReached("xeon-8480-es-ddr5-4800-8ch", 0.7271),
    HostReached("xeon-gold-6138-2s-16t-ddr4-2666-6ch", 0.2937),
    HostReached("xeon-gold-6454s-ddr5-4800-8ch", 0.5129),
)
"""The shipped hosts that were fitted to one run each (hardware_profiles/hosts), but for those whose
runs are in packs that judge what follows from this.
"""
STUDENT = {3: 2.3534, 4: 2.1318, 8: 1.8595, 9: 1.8331}
"""95 % points of Student's t, by degrees of freedom."""


def experts_reach(without: str = "") -> tuple[float, float]:
    """The least and the most that one more host reaches in 90 % of all cases, by those of
    ``EXPERTS`` but ``without``: lognormal, with the error of so few, and at most all of it.
    """
    logs = [log(one.share) for one in EXPERTS if one.host != without]
    width = STUDENT[len(logs) - 1] * stdev(logs) * sqrt(1 + 1 / len(logs))
    return exp(mean(logs) - width), min(exp(mean(logs) + width), 1.0)


class KernelsReached(NamedTuple):
    """What ``runs`` of llama.cpp or ik_llama.cpp on one ``gpu`` took over their price by its
    datasheet: ``middle``, the mean of the logarithms, and ``width``, their standard deviation.
    """

    gpu: str
    runs: int
    middle: float
    width: float


KERNELS = (
    KernelsReached("gb10", 31, 0.047, 0.101),
    KernelsReached("m2-ultra-192gb", 30, 0.157, 0.106),
    KernelsReached("rtx-3090", 2, 0.231, 0.069),
    KernelsReached("rtx-3090-ti", 2, 0.327, 0.096),
    KernelsReached("rtx-5090", 2, -0.022, 0.005),
)
"""Runs of packs of evidence whose experts are all on the GPU: of one request, of which no text
decides the number of experts, and of prompts (a test takes them from what is kept). The software's
``cache_bandwidth`` is fitted to another run of GB10, two numbers of Apple's to two of the M2 Ultra,
so that these cards are nearer to 0 than one of which no run is known.
"""


def kernels_reach(gpu: str) -> tuple[float, float]:
    """Between which multiples of its price a run on ``gpu`` lies in 90 % of all cases, by those on
    other cards alone: lognormal, what cards and what runs of one card differ by, with the error of
    so few. Most took longer than their price, so that the upper end is further away.
    """
    others = [one for one in KERNELS if one.gpu != gpu]
    middles = [one.middle for one in others]
    between = stdev(middles) ** 2 * (1 + 1 / len(others))
    width = sqrt(between + mean(one.width**2 for one in others)) * STUDENT[len(others) - 1]
    return min(exp(mean(middles) - width), 1.0), max(exp(mean(middles) + width), 1.0)


SYSTEM_BYTES = 4 << 30
"""What a system and its programs may take of a host's memory: what Windows 11 and Ubuntu's desktop
ask for (from memory). 'auto' leaves it to them.
"""


class FaultsReached(NamedTuple):
    """What page faults of a mapped file reached on one machine, ``mapped``, of the ``drive``'s
    large reads, both in GB/s.
    """

    machine: str
    drive: float
    mapped: float


FAULTS = (
    FaultsReached("Apple silicon, macOS (omlx issue 3628)", 9.3, 0.23),
    FaultsReached(
        "Ryzen 9 9950X, 16 threads of llama.cpp, Linux, Crucial T700 on PCIe 5.0 (ik_llama.cpp's "
        "pull requests 270 and 386, discussion 477: 'almost 6 GB/s', '5~6GiB/s'; its datasheet's "
        "12,400 MB/s)",
        12.4,
        5.5,
    ),
)
FAULTS_BYTES_PER_S = min(one.mapped for one in FAULTS) * 1e9
"""What page faults of a mapped file bring from a drive at least."""


def faults_reach() -> tuple[float, float]:
    """The least and the largest share of a drive's reads that page faults reached."""
    shares = [one.mapped / one.drive for one in FAULTS]
    return min(shares), max(shares)
