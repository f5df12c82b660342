"""What was measured of parts of machines beside what their datasheets say."""

from __future__ import annotations

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


def copies_reach(*, pinned: bool) -> tuple[float, float]:
    """The least and the largest share of its slot that a machine's copies reached."""
    every = ((one.pinned if pinned else one.pageable, one.slot) for one in COPIES)
    shares = [rate / slot for rate, slot in every if rate is not None]
    return min(shares), max(shares)


VERSIONS = (0.81, 1.27)
"""Between which 90 % of the times lie that one version's table of kernels has, over those of
another's: the same shape on the same card (aiconfigurator-core 0.12.0, vLLM, SGLang, TensorRT-LLM).
"""
