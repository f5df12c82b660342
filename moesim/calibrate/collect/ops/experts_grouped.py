"""All experts of a layer in two grouped products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, Call, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, Point, Trial
from moesim.calibrate.collect.shapes import ExpertShape
from moesim.calibrate.collect.trial import CallTrial, Take
from moesim.calibrate.tables.routing_draws import power_law_rows

TOKENS = {
    "cpu": (1, 4, 16, 64),
    "cuda": (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096),
}
ALPHA = 1.2
"""Of the power law of uneven rows."""
FEWEST_UNEVEN = 8
KERNEL = "torch-grouped"


class GroupedExperts(Collector):
    """``moe`` by ``torch._grouped_mm``: tokens x distinct experts, evenly spread and not.

    Where this torch or device has no grouped product, the points fail with its own words.
    """

    kind = "experts_grouped"
    ops = ("moe",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        full = SECOND if plan.on_cpu else FIRST
        for dtype in plan.dtypes:
            for shape in (shape for shape in plan.shapes.experts if shape.gated):
                for tokens in TOKENS[plan.kind]:
                    every, *fewer = even_rows(shape, tokens)
                    yield _point(shape, tokens, every, dtype, full)
                    for rows in fewer:
                        yield _point(shape, tokens, rows, dtype, SECOND)
                    if tokens >= FEWEST_UNEVEN:
                        uneven = power_law_rows(tokens, shape.top_k, shape.experts, ALPHA)
                        yield _point(shape, tokens, uneven, dtype, SECOND)


def even_rows(shape: ExpertShape, tokens: int) -> list[tuple[int, ...]]:
    """Rows of each expert, evenly over as many as the tokens reach, half and a quarter of them."""
    total = tokens * shape.top_k
    reached = min(shape.experts, total)
    counts = [n for n in (reached, reached // 2, reached // 4) if n >= min(shape.top_k, reached)]
    return [
        tuple(total // n + (i < total % n) if i < n else 0 for i in range(shape.experts))
        for n in counts
    ]


def _point(
    shape: ExpertShape, tokens: int, rows: tuple[int, ...], dtype: str, priority: int
) -> Point:
    columns = {
        "op": "moe",
        "dtype": dtype,
        "tokens": tokens,
        "hidden": shape.hidden,
        "inter": shape.inter,
        "experts": shape.experts,
        "top_k": shape.top_k,
        "distinct_experts": sum(map(bool, rows)),
        "gated": shape.gated,
        "rows": rows,
        "max_rows": max(rows),
        "kernel_source": KERNEL,
        "l2_warm": False,
    }
    size = shape.experts * shape.elements * ELEMENT_BYTES[dtype]
    return Point(columns, partial(_trial, shape, rows, dtype), priority, size)


def _trial(shape: ExpertShape, rows: tuple[int, ...], dtype: str, device: Device) -> Trial:
    torch = device.pool.torch
    grouped, silu = torch._grouped_mm, torch.nn.functional.silu  # noqa: SLF001
    x = device.pool.fresh(sum(rows), shape.hidden, dtype=dtype)
    ends = torch.tensor(rows, device=x.device).cumsum(0).to(torch.int32)

    def build(take: Take) -> Call:
        first = take(shape.experts, 2 * shape.inter, shape.hidden).transpose(-2, -1)
        second = take(shape.experts, shape.hidden, shape.inter).transpose(-2, -1)

        def call() -> object:
            gate, up = grouped(x, first, offs=ends).chunk(2, dim=-1)
            return grouped(silu(gate) * up, second, offs=ends)

        return call

    used = sum(map(bool, rows)) * shape.elements * ELEMENT_BYTES[dtype]
    every = shape.experts * shape.elements * ELEMENT_BYTES[dtype]
    return CallTrial(device, build, dtype, used, cut_bytes=every)
