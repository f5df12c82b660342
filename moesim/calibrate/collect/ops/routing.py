"""The router, and the reordering of rows for the experts and back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from moesim.calibrate.collect.device import ELEMENT_BYTES, Call, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, Point, Trial
from moesim.calibrate.collect.shapes import ExpertShape
from moesim.calibrate.collect.trial import CallTrial, RepeatedTrial, Take

TOKENS = {
    "cpu": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "cuda": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}


class Gate(Collector):
    """``gate``: the router's product, softmax and top-k."""

    kind = "gate"
    ops = ("gate",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        for dtype in plan.dtypes:
            for shape in plan.shapes.experts:
                for tokens in TOKENS[plan.kind]:
                    for warm, priority in ((False, FIRST), (True, SECOND)):
                        yield Point(
                            columns=_columns("gate", shape, tokens, dtype)
                            | {
                                "experts": shape.experts,
                                "kernel_source": "torch-eager",
                                "l2_warm": warm,
                            },
                            prepare=partial(_gate, shape, tokens, dtype, warm),
                            priority=priority,
                            operand_bytes=shape.experts * shape.hidden * ELEMENT_BYTES[dtype],
                        )


class Permute(Collector):
    """``permute``: rows gathered for their experts, and added back with their weights.

    A GPU finds the rows in its L2, where they were just written; a CPU has read an expert since,
    which leaves neither rows nor code in its caches.
    """

    kind = "permute"
    ops = ("permute",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        for dtype in plan.dtypes:
            for shape in plan.shapes.experts:
                for tokens in TOKENS[plan.kind]:
                    for kernel, trial in (
                        ("torch-index-select", _gather),
                        ("torch-index-add", _scatter),
                    ):
                        yield Point(
                            columns=_columns("permute", shape, tokens, dtype)
                            | {"kernel_source": kernel, "l2_warm": not plan.on_cpu},
                            prepare=partial(trial, shape, tokens, dtype),
                        )


def _columns(op: str, shape: ExpertShape, tokens: int, dtype: str) -> dict[str, Any]:
    return {
        "op": op,
        "dtype": dtype,
        "tokens": tokens,
        "hidden": shape.hidden,
        "top_k": shape.top_k,
    }


def _gate(shape: ExpertShape, tokens: int, dtype: str, warm: bool, device: Device) -> Trial:
    linear = device.pool.torch.nn.functional.linear
    x = device.pool.fresh(tokens, shape.hidden, dtype=dtype)

    def build(take: Take) -> Call:
        router = take(shape.experts, shape.hidden)
        return lambda: linear(x, router).softmax(-1).topk(shape.top_k, dim=-1)

    size = shape.experts * shape.hidden * ELEMENT_BYTES[dtype]
    return CallTrial(device, build, dtype, size, warm)


def _gather(shape: ExpertShape, tokens: int, dtype: str, device: Device) -> Trial:
    x = device.pool.fresh(tokens, shape.hidden, dtype=dtype)
    order = _order(shape, tokens, x)
    return _small(lambda: x.index_select(0, order), device)


def _scatter(shape: ExpertShape, tokens: int, dtype: str, device: Device) -> Trial:
    pool = device.pool
    outputs = pool.fresh(tokens * shape.top_k, shape.hidden, dtype=dtype)
    weights = pool.fresh(tokens * shape.top_k, 1, dtype=dtype)
    total = pool.torch.zeros_like(outputs[:tokens])
    order = _order(shape, tokens, outputs)
    return _small(lambda: total.index_add_(0, order, outputs * weights), device)


def _small(call: Call, device: Device) -> Trial:
    if device.kind == "cpu":
        return CallTrial(device, lambda _: call, "fp32", 1)
    return RepeatedTrial(call, device.time)


def _order(shape: ExpertShape, tokens: int, like: Any) -> Any:
    """The token of each row, rows sorted by expert: each token ``top_k`` times."""
    import torch

    ids = torch.arange(tokens).repeat(shape.top_k)
    return ids[torch.randperm(len(ids))].to(like.device)
