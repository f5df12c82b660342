"""Dense products: the models' projections and heads, a grid, and what shows the peaks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from moesim.calibrate.collect.device import ELEMENT_BYTES, TORCH_NAMES, Device
from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import FIRST, SECOND, THIRD, Point, Trial
from moesim.calibrate.collect.trial import CallTrial, Take

COARSE, FINE = (1, 4, 16, 64, 256), (2, 8, 32, 128, 512)
LARGE_ROWS = (1024, 2048, 4096)
GRID = ((256, 256), (1024, 1024), (2048, 512), (512, 4096), (2048, 2048), (4096, 4096))
LARGE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the product that shows the peak."""
LARGEST_WORK = {"cpu": 2**30, "cuda": 2**42}
"""Multiplications of a product; larger ones take too much of the time."""
STREAM_CACHES = 4
STREAM_ROWS = 4096


class Products(Collector):
    """``gemm``: x [m, k] times a weight [n, k] transposed, as ``torch.nn.Linear``."""

    kind = "products"
    ops = ("gemm",)

    def points(self, plan: Plan) -> Iterator[Point]:
        """See ``Collector``."""
        for dtype in plan.dtypes:
            yield from _peaks(plan, dtype)
            for n, k in plan.shapes.products:
                yield from _rows(n, k, dtype, COARSE, FIRST, plan.kind)
                yield from _rows(n, k, dtype, FINE, SECOND, plan.kind)
            for n, k in GRID:
                yield from _rows(n, k, dtype, COARSE, THIRD, plan.kind)
            if not plan.on_cpu:
                for n, k in (*plan.shapes.products, *GRID):
                    yield from _rows(n, k, dtype, LARGE_ROWS, SECOND, plan.kind)
        if not plan.on_cpu:
            for dtype in (name for name in TORCH_NAMES if name not in plan.dtypes):
                yield _point(LARGE[plan.kind], LARGE[plan.kind], LARGE[plan.kind], dtype, FIRST)


def _peaks(plan: Plan, dtype: str) -> Iterator[Point]:
    """A large product, and a single row times a matrix that no cache holds."""
    large = LARGE[plan.kind]
    yield _point(large, large, large, dtype, FIRST, warm=True)
    columns = -(-STREAM_CACHES * plan.cache_bytes // (STREAM_ROWS * ELEMENT_BYTES[dtype]))
    for count in (columns, 2 * columns):
        yield _point(1, STREAM_ROWS, count, dtype, FIRST)


def _rows(
    n: int, k: int, dtype: str, rows: tuple[int, ...], priority: int, kind: str
) -> Iterator[Point]:
    for m in (m for m in rows if m * n * k <= LARGEST_WORK[kind]):
        for warm in (False, True):
            yield _point(m, n, k, dtype, priority, warm=warm)


def _point(m: int, n: int, k: int, dtype: str, priority: int, warm: bool = False) -> Point:
    columns = {"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k}
    return Point(
        columns=columns | {"kernel_source": "torch-linear", "l2_warm": warm},
        prepare=partial(_trial, m, n, k, dtype, warm),
        priority=priority,
        operand_bytes=n * k * ELEMENT_BYTES[dtype],
    )


def _trial(m: int, n: int, k: int, dtype: str, warm: bool, device: Device) -> Trial:
    linear = device.pool.torch.nn.functional.linear
    x = device.pool.fresh(m, k, dtype=dtype)

    def build(take: Take) -> partial[object]:
        return partial(linear, x, take(n, k))

    return CallTrial(device, build, dtype, n * k * ELEMENT_BYTES[dtype], warm)
