"""A layer that the host runs, but for its routed experts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.operations.attention.attention import keys_read
from moesim.hardware.operations.kernels.host_work import START_NS, core_rate, longest_on_host
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.roofline import matrix_elements
from moesim.model.spec import LayerSpec


class CpuLayer(Operation):
    """One start, and the longer of reading and computing: attention with its cache, the router, the
    dense network or the shared expert, at the share of the DRAM that experts reach.

    Routed experts are ``cpu_expert``.
    """

    kind: ClassVar[str] = "cpu_layer"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "waiting_for_cpu",
            lambda layer, at: (layer, at.group_tokens, at.context_tokens, at.kv_tokens),
            "layer on CPU",
            on_host=True,
        ),
    )

    machine_part: ClassVar[str] = "host"

    def parts(
        self, layer: LayerSpec, tokens: ArrayLike, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> list[Part]:
        """``tokens`` new ones; sums of the keys that each attends to, and of those in the cache."""
        count, host, block = np.asarray(tokens, np.float64), self.hardware.host, layer.attention
        attended, cache = keys_read(block, count, context_tokens, kv_tokens)
        head = block.query_key_head_size + block.value_head_size
        operations = 2.0 * count * _elements(layer) + attended * (2.0 * block.heads * head)
        start = host.layer_start.value if host.layer_start else float(START_NS)
        size = layer.bytes - layer.expert_bytes + cache
        of_core = core_rate(self.hardware, block.dtype, count)
        work = longest_on_host(host, self.gpus_per_node, size, operations, of_core)
        return where(count > 0, [Part(np.full(count.shape, start), name="start"), work])


def _elements(layer: LayerSpec) -> int:
    """Weights that a token is multiplied with, but for routed experts."""
    networks = [layer.dense, layer.moe.shared if layer.moe else None]
    router = layer.moe.router_parameters if layer.moe else 0
    used = sum(matrix_elements(network) for network in networks if network is not None)
    return layer.attention.parameters + router + used
