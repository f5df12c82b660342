"""The attention block of a layer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.described.precision import activation_dtype, dtype_of
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.attention.scores import (
    Cache,
    Uniform,
    fitted_scores,
    joint_scores,
    score_fits,
    uniform,
    waits_for_longest,
)
from moesim.hardware.operations.products.calibrated import (
    FittedProducts,
    Weights,
    product_fit_for,
)
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, where
from moesim.model.chosen import CACHES, GGML_CACHES
from moesim.model.spec import LATENT, AttentionSpec, LayerSpec

STARTS = 6
"""Norm, joint projection, rotation with cache write, scores, output projection, norm."""
LATENT_STARTS = 4
"""What a latent adds: its norm, queries from theirs, and the products that bring queries into the
latent and values out of it."""
CROSS_STARTS = 4
"""Norm, query projection, scores, output projection."""
PASSES = 8
"""Reads and writes of the hidden state by norms, residuals and projections."""
FOUR = 4
"""What ``served`` says of answers beside prompts and of padding."""
MANY, TOGETHER = 20, 8
"""Queries of a request from which on Metal's attention reads keys and values once for eight of a
head (ggml_metal_op_flash_attn_ext_use_vec, OP_FLASH_ATTN_EXT_NQPSG; llama-cpp-python 0.3.16 on)."""
UNPACKED_BYTES = 4.0
"""Of an element in 16 bits, written and read."""
PROJECTIONS = 2
"""Of the starts, and of the passes, those that a fitted price of both projections contains."""


class Attention(Operation):
    """Projections by the roofline of their weights, scores by that of the KV cache.

    Multi-head latent attention reads only its latent. Its decodes attend in it (absorbed: each
    head's keys and values are as wide as what is cached, which has their rotary part in both), its
    prompts with the uncompressed keys and values, but where the software absorbs them, too.
    A constant state, and what an index selects, are priced by their bytes.
    Of cross attention query and output projection are priced, and the start of its scores; what it
    does with the source is ``cross_attention``. Where the profile has fits, projections are two
    products (joint and output) and scores a kernel (``fitted_scores``), each with its own start.
    """

    kind: ClassVar[str] = "attention"
    by_part = True
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "attention",
            lambda layer, at: (
                layer,
                at.group_tokens,
                at.context_tokens,
                at.kv_tokens,
                *at.served,
            ),
            "attention",
        ),
    )

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``: of the projections' products and of the scores' kernels."""
        own = {layer.attention for layer in self.model.layers}
        cross = {layer.cross_attention for layer in self.model.layers if layer.cross_attention}
        products = (product_fit_for(self.hardware, _dtype(one)) for one in own | cross)
        scores = (
            one
            for block in own
            if not self._own_kernels(block)
            for one in score_fits(self.hardware, block, self.cache(block))
        )
        return known_fits((*products, *scores))

    @property
    def waits_for_longest(self) -> bool:
        """Whether decodes of a layer wait for the longest of unequal contexts."""
        own = {layer.attention for layer in self.model.layers}
        return any(
            waits_for_longest(self.hardware, one, self.cache(one))
            for one in own
            if not self._own_kernels(one)
        )

    def parts(
        self,
        layer: LayerSpec,
        tokens: ArrayLike,
        context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
        *served: ArrayLike,
    ) -> list[Part]:
        """See ``CostModel.attention_ns``."""
        count, block = np.asarray(tokens, np.int64), layer.attention
        if not block.heads:
            return [Part(np.zeros(count.shape))]
        own = STARTS + (LATENT_STARTS if block.kind.startswith(LATENT) else 0)
        starts, passes = self.gpu.kernels("attention", own, layer), PASSES
        projections, inside = self._projections(block, count, block.parameters, layer.norm_bytes)
        starts, passes = starts - inside, passes - inside
        if (cross := layer.cross_attention) is not None:
            used = self.model.hidden_size * cross.heads
            used *= cross.query_key_head_size + cross.value_head_size
            more, inside = self._projections(cross, count, used, 0)
            projections, starts = projections + more, starts + CROSS_STARTS - inside
        scores, kernels = self._groups(block, (count, context_tokens, kv_tokens), served)
        hidden = self.model.hidden_size * self.model.activation_bytes
        rest = [self.gpu.moves(count * (passes * hidden)), self.gpu.starts(starts - 1 + kernels)]
        return where(count > 0, [*projections, *scores, *rest])

    def scores(
        self, block: AttentionSpec, cache: Cache, tokens: ArrayLike, context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
    ) -> list[Part]:  # fmt: skip
        """The scores' kernel by itself, with its start; shapes as those of the block."""
        scores, alone = self._scores(block, cache, tokens, context_tokens, kv_tokens)
        return [scores, self.gpu.starts(1 - alone)]

    def _groups(
        self, block: AttentionSpec, every: tuple[Any, ...], served: tuple[ArrayLike, ...]
    ) -> tuple[list[Part], Any]:
        """The scores' kernels, and how many of them do not contain their start: one, or where some
        tokens decode beside others, one for these and one for the rest; none of padding alone.
        """
        if not served:
            scores, alone = self._scores(block, self.cache(block), *every)
            return [scores], 1 - alone
        *decoding, padding = map(np.asarray, (*served, 0)[:FOUR])
        longest = np.asarray(served[FOUR] if len(served) > FOUR else 0)
        rest = [np.asarray(a) - b for a, b in zip(every, decoding, strict=True)]
        rest[0] = rest[0] - padding
        alone_longest = np.where(decoding[0] > 0, 0, longest)
        found, kernels = [], np.zeros(np.shape(rest[0]), np.int64)
        for (count, context, cached), last in ((rest, alone_longest), (decoding, longest)):
            if not np.any(count > 0):
                continue
            scores, alone = self._scores(block, self.cache(block), count, context, cached, last)
            found += where(count > 0, [scores])
            kernels += np.where(count > 0, 1 - alone, 0)
        if len(found) > 1:
            found = self._joined(block, found, (rest, decoding), longest)
        return found, kernels

    def _joined(
        self, block: AttentionSpec, apart: list[Part], groups: tuple[Any, Any], longest: Any
    ) -> list[Part]:
        """The scores of prompts and of those that decode beside them, as one call where the kernels
        take both in one: no less than either alone.
        """
        unfitted = block.state_bytes or block.selected or self._own_kernels(block)
        if self.hardware.mixed_attention == "apart" or unfitted:
            return apart
        prompts, decodes = (part.time_ns for part in apart)
        both, *told = np.broadcast_arrays(
            (groups[0][0] > 0) & (groups[1][0] > 0), *groups[0], *groups[1], longest
        )
        *own, last = (one[both] for one in told)  # few of the passes of a run have both
        requests = uniform(*own[:3]), uniform(*own[3:])
        joint = joint_scores(self.hardware, block, self.cache(block), requests, last)
        if joint is None:
            return apart
        more = np.array(prompts)
        more[both] = np.maximum(joint, np.maximum(prompts, decodes)[both]) - decodes[both]
        return [apart[0]._replace(time_ns=more), apart[1]]

    def cache(self, block: AttentionSpec) -> Cache:
        """The format of what a run caches of it."""
        return cache_of(block, self.model.activation_bytes)

    def _projections(
        self, block: AttentionSpec, count: Any, elements: int, norm_bytes: int
    ) -> tuple[list[Part], int]:
        """The projections with ``elements`` weights, and how many launches they contain."""
        dtype = _dtype(block)
        width = block.bytes / max(block.parameters, 1)
        size = block.bytes * min(1.0, elements / max(block.parameters, 1)) + norm_bytes
        if not (fitted := FittedProducts(self.hardware, dtype)):
            return [self.gpu.product(count, elements, size, dtype, "projections")], 0
        hidden, last = self.model.hidden_size, block.heads * block.value_head_size
        first = max(elements / hidden - last, 1.0)
        found = [
            fitted.part(count, Weights(first, hidden, width), "joint projection"),
            fitted.part(count, Weights(hidden, last, width), "output"),
        ]
        return found, PROJECTIONS

    def _scores(
        self, block: AttentionSpec, cache: Cache, count: Any, context_tokens: ArrayLike,
        kv_tokens: ArrayLike, longest: ArrayLike = 0,
    ) -> tuple[Part, Any]:  # fmt: skip
        """The scores, and where they contain their launch (0 or 1)."""
        attended, read = keys_read(block, count, context_tokens, kv_tokens)
        units = activation_dtype(self.model.activation_bytes)
        requests = uniform(count, context_tokens, kv_tokens)
        read = read * self._unpacked(cache, requests)
        absorbed = block.latent & ((requests.queries <= 1) | self._own_kernels(block))
        operations = attended * np.where(absorbed, *products_of(block, cache))
        single = block.latent & (requests.queries <= 1)
        rates = np.where(single, self.hardware.latent_products, 1.0)
        shares = self.hardware.cache_bandwidth, rates
        again = self._head_reads(block, cache, operations, requests)
        plain = self.gpu.longest(read, operations, units, shares=shares, cached=again)
        if block.state_bytes or block.selected or self._own_kernels(block):
            return Part(plain.time_ns, name="scores", of=plain.of), np.zeros(count.shape, np.int64)
        found = fitted_scores(self.hardware, block, cache, requests, longest)
        own = np.where(found.fitted, found.time_ns, plain.time_ns)
        time = np.maximum(own, self._least(block, cache, requests, found.fitted))
        of = found.of if found.fitted.all() else plain.of
        return Part(time, found.source, "scores", of), found.fitted.astype(np.int64)

    def _head_reads(
        self, block: AttentionSpec, cache: Cache, operations: Floats, requests: Uniform
    ) -> Floats | None:
        """Bytes of keys and values, with each of which a head of a query multiplies and adds; read
        once for ``TOGETHER`` queries where there are many. None where the software reads them once.
        """
        if self.hardware.head_reads is None or block.state_bytes:
            return None
        queries, unpacked = requests.queries, self._unpacked(cache, requests) > 1
        reads = np.where(queries < MANY, queries, np.ceil(queries / TOGETHER))
        width = np.where(unpacked, UNPACKED_BYTES / 2, cache.element_bytes)
        return np.asarray(operations / 2 * width * reads / queries)

    def _unpacked(self, cache: Cache, requests: Uniform) -> Floats:
        """Bytes moved over those of the cache: where the software unpacks it, 16 bits of each
        element are written and read, too.
        """
        least = self.hardware.cache_unpacked_from
        if not least or cache.dtype not in GGML_CACHES:
            return np.ones(np.shape(requests.queries))
        return np.where(requests.queries >= least, 1 + UNPACKED_BYTES / cache.element_bytes, 1.0)

    def _own_kernels(self, block: AttentionSpec) -> bool:
        """Whether the software attends in latents alone, by kernels that no fit is of."""
        return block.latent and self.hardware.latent_prompts == "absorbed"

    def _least(
        self, block: AttentionSpec, cache: Cache, requests: Uniform, fitted: NDArray[np.bool_]
    ) -> Floats:
        """What prompts over a latent take at least: a decode over as many keys, as fits have it;
        beyond its start where they are not ``fitted``; 0 elsewhere.
        """
        if not block.latent:
            return np.zeros(np.shape(requests.queries))
        single = requests._replace(queries=np.ones_like(requests.queries))
        decode = fitted_scores(self.hardware, block, cache, single).time_ns
        return np.where(fitted, decode, np.maximum(decode - self.gpu.start_ns, 0))


def _dtype(block: AttentionSpec) -> str:
    """The format of the projections' weights."""
    return block.dtype or dtype_of(block.parameters, block.bytes)


def cache_of(block: AttentionSpec, activation_bytes: int) -> Cache:
    """The format of what a run with so wide activations caches of it."""
    if block.cache_dtype is not None:
        return Cache(block.cache_dtype, CACHES[block.cache_dtype])
    return Cache(activation_dtype(activation_bytes), activation_bytes)


def products_of(block: AttentionSpec, cache: Cache) -> tuple[float, float]:
    """Operations of all heads with a key and its value: as wide as what is cached, in a latent that
    absorbs its projections, and as wide as each head's own.
    """
    cached = block.kv_bytes_per_token / cache.element_bytes
    own = block.query_key_head_size + block.value_head_size
    return 2 * block.heads * 2 * cached, 2.0 * block.heads * own


def keys_read(
    block: AttentionSpec, count: Any, context_tokens: ArrayLike, kv_tokens: ArrayLike
) -> tuple[Floats, Floats]:
    """Keys that tokens attend to, summed over them, and the bytes of the cache that are read.

    A state is read and written. An index reads all of its keys, and chooses which others are read.
    """
    attended, cached = np.asarray(context_tokens, np.float64), np.asarray(kv_tokens, np.float64)
    index = cached * block.index_bytes_per_token
    if block.selected is not None:
        most = count * float(block.selected)
        attended, cached = np.minimum(attended, most), np.minimum(cached, most)
    rest = cached * (block.kv_bytes_per_token - block.index_bytes_per_token)
    return attended, (index + rest) * (2 if block.state_bytes else 1)
