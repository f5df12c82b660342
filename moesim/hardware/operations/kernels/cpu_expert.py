"""An expert that the host computes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.arrays import NS, Floats, Ints
from moesim.hardware.operation import Operation
from moesim.hardware.operations.kernels.work import KERNELS, kernel_fit_for, kernel_part
from moesim.hardware.parts import Amount, Detail, Part, fitted_source
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.provenance import Source
from moesim.hardware.roofline import matrix_elements
from moesim.model.spec import FfnSpec, LayerSpec

START_NS = 8_000
"""Handing one expert to the threads and back: a Ryzen 9 7950X takes 48.7 us for one expert of
2.86 MB and 40.3 us for each further one (everett6/moe-prefetch x2_cpu_expert_cost, 16 threads)."""
CORE_RATE = 4e10
"""Operations a second of one core (prior: AVX2 at a third of its peak; the same source's one core
reached 86e9 on weights that lay in its cache)."""


FITTED = "fitted to one run"
"""What the source of a share begins with that 'moesim calibrate host' found."""
REACHED = (0.3, 0.7)
"""Shares of the DRAM peak that real runs reach which compute experts on the CPU."""


def host_notes(profile: HardwareProfile) -> list[str]:
    """What an experts' share of the DRAM peak that nobody measured leaves open, and what would
    narrow it; of one that was fitted to a run, to which.
    """
    share = profile.host.expert_fraction
    if share is None or kernel_fit_for(profile, CpuExpert.kind) is not None:
        return []
    source = profile.sources.get(share.source, "")
    if source.startswith(FITTED):
        return [f"experts on the CPU reach {share.value:.0%} of the DRAM peak, {source}"]
    if not source.startswith("prior"):
        return []
    least, most = (share.value / end for end in reversed(REACHED))
    reach = (
        f"experts on the CPU reach {share.value:.0%} of the DRAM peak, which is a prior: real runs"
    )
    span = (
        f"reached {REACHED[0]:.0%} to {REACHED[1]:.0%}, so they may take {least:.1f} to {most:.1f}"
    )
    remedy = "times as long; the tokens/s of one run of this host would narrow it"
    return [f"{reach} {span} {remedy} ('moesim calibrate host')"]


class CpuExpert(Operation):
    """A start where the layer has none, and the longer of reading the weights and computing the
    rows, on the share of a NUMA node that one GPU has; a profile's fit of ``cpu_expert`` where it
    has one.
    """

    kind: ClassVar[str] = "cpu_expert"
    category: ClassVar[str] = "waiting_for_cpu"

    def parts(self, layer: LayerSpec, rows: ArrayLike) -> list[Part]:
        """See ``CostModel.cpu_expert_ns``."""
        expert, count = _expert(layer), np.asarray(rows, np.float64)
        elements = matrix_elements(expert)
        if (fit := kernel_fit_for(self.hardware, self.kind)) is None:
            operations = 2.0 * elements * count
            return [
                Part(np.full(count.shape, self._start_ns()), name="start"),
                self._longest(expert, operations),
            ]
        shape = {
            "tokens": count,
            "hidden": np.float64(expert.hidden_size),
            "inter": np.float64(expert.intermediate_size),
            "gated": np.float64(expert.gated),
            "element_bytes": np.float64(expert.bytes / elements),
        }
        work = KERNELS[self.kind](shape)  # type: ignore[arg-type]
        return [kernel_part(fit, work, self.gpus_per_node)]

    def _start_ns(self) -> int:
        """Of each expert: nothing where the layer has a start, which is no part of its experts."""
        return 0 if self.hardware.host.layer_start else START_NS

    def _longest(self, expert: FfnSpec, operations: Floats) -> Part:
        """The longer of reading and computing, for each of the GPUs that share the node."""
        host, sharing = self.hardware.host, self.gpus_per_node
        size = np.float64(expert.bytes)
        read = np.float64(size * NS / host.expert_bytes_per_second)
        rate = host.expert_threads * (host.core_rate.value if host.core_rate else CORE_RATE)
        computed = operations * NS / rate

        def both() -> Detail:
            share = (host.expert_fraction or host.memory_fraction).value
            dram, most = host.expert_peak * share, host.thread_bytes_per_second
            reads = _reads("reads", size, sharing, host.expert_peak, share)
            threads = [_reads("threads", size, sharing, most, 1.0)] if most < dram else []
            times = computed * sharing
            products = Amount("products", times, operations, "FLOP", rate, 1 / sharing)
            return Detail((reads, *threads, products))

        return Part(np.maximum(read, computed) * sharing, name="reads and products", of=both)

    def sources(self, layer: LayerSpec, rows: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        if (fit := kernel_fit_for(self.hardware, self.kind)) is None:
            return Source.DATASHEET
        expert = _expert(layer)
        columns = {"hidden": expert.hidden_size, "inter": expert.intermediate_size}
        return fitted_source(fit.measured, columns | {"tokens": np.asarray(rows)})


def _reads(name: str, size: Floats | np.float64, sharing: int, peak: float, share: float) -> Amount:
    """Reading ``size`` bytes at a share of ``peak``, of which each of the GPUs has its part."""
    time_ns = np.asarray(size * NS / (peak * share) * sharing)
    return Amount(name, time_ns, np.asarray(size), "B", peak, share / sharing)


def _expert(layer: LayerSpec) -> FfnSpec:
    assert layer.moe is not None, "a dense layer has no routed experts"
    return layer.moe.expert
