"""Attention: whole prompts, and one token of each request over its cache."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, Point, Trial
from moesim.calibrate.collect.shapes import AttentionShape
from moesim.calibrate.collect.trial import CallTrial, Take

BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (1, 4, 16, 64, 128)}
CONTEXTS = {"cpu": (16, 64, 128, 256, 512, 1024), "cuda": (128, 512, 1024, 2048, 4096, 16384)}
PROMPTS = {"cpu": (16, 64, 128, 256, 512), "cuda": (128, 512, 1024, 2048, 4096)}
PROMPT_BATCHES = {"cpu": (1, 4), "cuda": (1, 4, 16)}
KERNEL = "torch-sdpa"


class Attention(Collector):
    """``attention_prefill`` and ``attention_decode`` by ``scaled_dot_product_attention``.

    Only the attention itself; its projections are products. Cold and warm are about the cache.
    """

    kind = "attention"
    ops = ("attention_prefill", "attention_decode")

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        for dtype in plan.dtypes:
            for shape in plan.shapes.attention:
                for batch in BATCHES[plan.kind]:
                    for context in CONTEXTS[plan.kind]:
                        for warm, priority in ((False, FIRST), (True, SECOND)):
                            yield _point("decode", shape, batch, context, dtype, warm, priority)
                for batch in PROMPT_BATCHES[plan.kind]:
                    for context in PROMPTS[plan.kind]:
                        yield _point("prefill", shape, batch, context, dtype, True, SECOND)


def _point(
    phase: str,
    shape: AttentionShape,
    batch: int,
    context: int,
    dtype: str,
    warm: bool,
    priority: int,
) -> Point:
    heads, kv_heads, head_dim = shape
    columns = {
        "op": f"attention_{phase}",
        "dtype": dtype,
        "batch": batch,
        "context": context,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "kernel_source": KERNEL,
        "l2_warm": warm,
    }
    queries = 1 if phase == "decode" else context
    return Point(
        columns=columns,
        prepare=partial(_trial, shape, batch, context, queries, dtype, warm),
        priority=priority,
        operand_bytes=_cache_bytes(shape, batch, context, dtype),
    )


def _cache_bytes(shape: AttentionShape, batch: int, context: int, dtype: str) -> int:
    return 2 * batch * context * shape.kv_heads * shape.head_dim * ELEMENT_BYTES[dtype]


def _trial(
    shape: AttentionShape,
    batch: int,
    context: int,
    queries: int,
    dtype: str,
    warm: bool,
    device: Device,
) -> Trial:
    attend = device.pool.torch.nn.functional.scaled_dot_product_attention
    query = device.pool.fresh(batch, shape.heads, queries, shape.head_dim, dtype=dtype)
    options = {"enable_gqa": True} if shape.heads != shape.kv_heads else {}

    def build(take: Take) -> partial[object]:
        keys = take(batch, shape.kv_heads, context, shape.head_dim)
        values = take(batch, shape.kv_heads, context, shape.head_dim)
        return partial(attend, query, keys, values, is_causal=queries > 1, **options)

    return CallTrial(device, build, dtype, _cache_bytes(shape, batch, context, dtype), warm)
