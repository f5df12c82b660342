"""An expert that the host computes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import Source, by_source
from moesim.hardware.kernel_work import KERNELS, kernel_fit_for, kernel_ns, kernel_numbers
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import NS, Floats, matrix_elements
from moesim.model.spec import LayerSpec

START_NS = 8_000
"""Handing one expert to the threads and back: a Ryzen 9 7950X takes 48.7 us for one expert of
2.86 MB and 40.3 us for each further one (everett6/moe-prefetch x2_cpu_expert_cost, 16 threads)."""
CORE_RATE = 4e10
"""Operations a second of one core (prior: AVX2 at a third of its peak; the same source's one core
reached 86e9 on weights that lay in its cache)."""


class CpuExpert(Operation):
    """A start, and the longer of reading the weights and computing the rows, on the share of a NUMA
    node that one GPU has; a profile's fit of ``cpu_expert`` where it has one.
    """

    kind: ClassVar[str] = "cpu_expert"

    def price(self, layer: LayerSpec, rows: ArrayLike) -> Floats:
        """See ``CostModel.cpu_expert_ns``."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        expert, host = layer.moe.expert, self.hardware.host
        elements, count = matrix_elements(expert), np.asarray(rows, np.float64)
        if (fit := kernel_fit_for(self.hardware, self.kind)) is not None:
            shape = {
                "tokens": count,
                "hidden": np.float64(expert.hidden_size),
                "inter": np.float64(expert.intermediate_size),
                "gated": np.float64(expert.gated),
                "element_bytes": np.float64(expert.bytes / elements),
            }
            work, numbers = KERNELS[self.kind](shape), kernel_numbers(fit)  # type: ignore[arg-type]
            rates = {"bandwidth": numbers.bandwidth, "compute": numbers.compute}
            shared = {name: rate / self.gpus_per_node for name, rate in rates.items()}
            return kernel_ns(numbers._replace(**shared), work)
        read = expert.bytes * NS / host.node_bytes_per_second
        cores = host.cores.value / host.numa_nodes.value
        computed = 2.0 * elements * count * NS / (cores * CORE_RATE)
        return np.asarray(START_NS + np.maximum(read, computed) * self.gpus_per_node, np.float64)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        fitted = kernel_fit_for(self.hardware, self.kind) is not None
        return by_source(price_ns, Source.FITTED if fitted else Source.DATASHEET)
