"""A layer that the host runs, but for its routed experts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.operations.attention.attention import cache_of, keys_read, products_of
from moesim.hardware.operations.attention.scores import uniform
from moesim.hardware.operations.kernels.host_work import core_rate, read_and_computed
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.parts import Part, where
from moesim.model.spec import AttentionSpec, LayerSpec


class CpuLayer(Operation):
    """What its threads wait for one another after its kernels, those of routed experts among them
    (one start, where the software says nothing of that), and reading and computing
    (``read_and_computed``), of all weights but those of routed experts, and then of the cache.

    The heads that share a key, and a prompt's queries, are its products' rows; what attends in a
    latent is as on the GPU. Routed experts are ``cpu_expert``.
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
        count, block = np.asarray(tokens, np.float64), layer.attention
        weights = self._work(
            np.float64(layer.bytes - layer.expert_bytes),
            2.0 * count * _elements(layer),
            core_rate(self.hardware, block.dtype, count),
        )
        queries = uniform(count, context_tokens, kv_tokens).queries
        attended, read = keys_read(block, count, context_tokens, kv_tokens)
        scores = self._scores(block, attended, read, queries)
        return where(count > 0, [self._waits(layer, count), weights, scores])

    def _waits(self, layer: LayerSpec, count: Floats) -> Part:
        host = self.hardware.host
        if (kernels := self.hardware.host_kernels) is not None:
            waits = kernels.waits_of(kernels.of_layer(layer), host.expert_threads)
            return Part(np.full(count.shape, waits), name="waits of threads")
        return Part(np.full(count.shape, float(host.layer_start_ns)), name="start")

    def _scores(
        self, block: AttentionSpec, attended: Floats, read: Floats, queries: Floats
    ) -> Part:
        """Of the keys that tokens attend to, and the bytes of the cache that they read, by so many
        ``queries`` of a request at a time.
        """
        cache = cache_of(block, self.model.activation_bytes)
        single = (queries <= 1) | (self.hardware.latent_prompts == "absorbed")
        each = np.where(block.latent & single, *products_of(block, cache))
        heads = block.heads if block.latent else block.heads / max(block.kv_heads, 1)
        of_core = core_rate(self.hardware, cache.dtype, heads * queries)
        return self._work(read, attended * each, of_core)._replace(name="scores")

    def _work(self, size: Floats | np.float64, operations: Floats, of_core: Floats) -> Part:
        return read_and_computed(self.hardware.host, self.gpus_per_node, size, operations, of_core)


def _elements(layer: LayerSpec) -> int:
    """Weights that a token is multiplied with, but for routed experts."""
    networks = [layer.dense, layer.moe.shared if layer.moe else None]
    router = layer.moe.router_parameters if layer.moe else 0
    used = sum(network.matrix_elements for network in networks if network is not None)
    return layer.attention.parameters + router + used
