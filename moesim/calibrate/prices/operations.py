"""The rows of a measurement table as operations of a run: every price is one of ``CostModel``'s.

A row says what a kernel does, not in which model, so each stands for a layer of its own shape.
Rows of one shape are priced together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.hardware.cost_model import LONGEST_NS, CostModel, Prices
from moesim.hardware.fitting import fitter_of
from moesim.hardware.measurements.columns import BYTES, activation_bytes
from moesim.hardware.measurements.validate import LINE, flag, number
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.attention.calibrated import LATENT_MARK
from moesim.hardware.operations.attention.scores import Cache
from moesim.hardware.operations.experts.fit_shapes import expert_shapes
from moesim.hardware.operations.products.calibrated import Weights, product_parts
from moesim.hardware.price_errors import Machine, spread_of
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.calibrated import Fit, static_input
from moesim.hardware.prices.parts import Part
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import LATENT, AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec

Sources = Source | Ints
SHOWN = 20
"""Lines of an error."""
TOO_LONG = "takes more than an hour, which no operation does; is the shape right?"
NO_ATTENTION = AttentionSpec(1, 1, 1, 1, None, 0, 0, 0)
BLOCK = 128
"""Channels that share a scale, where a row says that some do."""
MOST_OF_LATENT = 512 + 64
"""Channels of a latent, DeepSeek's, where a row tells those of keys and values out of it."""
BY_KERNEL = ("experts", "products", "kernels")
"""The kinds of fits of which a row's ``kernel_source`` chooses one."""


class Alike(NamedTuple):
    """What the rows of a group have in common."""

    op: str
    dtype: str = "bf16"
    kernel: str | None = None
    hidden: int = 1
    inter: int = 1
    experts: int = 1
    top_k: int = 1
    gated: bool = True
    block_scaled: bool = False
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 1
    l2_warm: bool = True
    pinned: bool = True
    gpus: int = 1

    @property
    def width(self) -> float:
        """Bytes of a weight."""
        return BYTES[self.dtype]

    @property
    def layer(self) -> LayerSpec:
        """A MoE layer of this shape."""
        elements = self.hidden * self.inter * (3 if self.gated else 2)
        size, router = round(elements * self.width), self.hidden * self.experts
        block = BLOCK if self.block_scaled else 1
        shape = (self.hidden, self.inter, self.gated, elements, size, self.dtype)
        expert = FfnSpec(*shape, block=block, static_input=static_input(self.kernel))
        moe = MoeSpec(self.experts, self.top_k, expert, None, router, round(router * self.width))
        return LayerSpec(0, "decoder", NO_ATTENTION, None, None, moe, 0, 0)

    @property
    def attention(self) -> AttentionSpec:
        """An attention block of this shape, without projections."""
        cached, kind, head = 2 * self.kv_heads * self.head_dim, "full", self.head_dim
        if (self.kernel or "").endswith(LATENT_MARK):
            cached, kind = min(cached, MOST_OF_LATENT), LATENT
        cached = round(cached * self.width)
        return AttentionSpec(self.heads, self.kv_heads, head, head, None, 0, 0, cached, kind)

    @property
    def model(self) -> ModelSpec:
        """A model that is this layer."""
        nothing = (0,) * 7
        size = int(activation_bytes(self.width))
        return ModelSpec("a row", "table", (self.layer,), self.hidden, *nothing, size)


class Priced(NamedTuple):
    """Whole nanoseconds [n], the parts of each, and what they rest on, ``Source`` codes [n]; the
    ``operation`` whose prices they are.
    """

    price_ns: Ints
    parts: list[Part]
    source: Ints
    operation: Operation

    def range_of(self, source: Ints, machine: Machine) -> tuple[Floats, Floats]:
        """Between which nanoseconds [n] the real times lie of prices that rest on ``source``, NaN
        where that is not known.
        """
        fits = known_fits(part.of().fit for part in self.parts)
        low, high = np.full((2, len(Source)), np.nan)
        for code in np.unique(source):
            spread = spread_of(self.operation, Source(code), machine, fits or None)
            low[code], high[code] = spread.low or np.nan, spread.high or np.nan
        return np.rint(self.price_ns * low[source]), np.rint(self.price_ns * high[source])


def priced(
    profile: HardwareProfile, table: pd.DataFrame, op: str, prices: Prices, name: str = "table"
) -> Iterator[tuple[NDArray[np.intp], Priced]]:
    """The places of the valid rows of ``op`` that are alike, and their prices; InputError with the
    lines of ``name`` whose price is none.
    """
    columns, price = OPERATIONS[op]
    for alike, places in _groups(table, op, columns):
        card = _of_kernel(profile, alike)
        costs = CostModel(card, alike.model, prices, serial=alike.experts == 1)
        kind, parts, source = price(costs, alike, table.iloc[places])
        shape = (len(places),)
        total = np.broadcast_to(sum(part.time_ns for part in parts), shape)
        if (long := np.flatnonzero(total > LONGEST_NS)).size:
            lines = table.iloc[places][LINE].to_numpy()[long[:SHOWN]]
            raise InputError([Problem(f"{name}:{line}", "", TOO_LONG) for line in lines])
        codes = np.broadcast_to(np.asarray(source, np.int64), shape)
        yield places, Priced(costs.whole(kind, total), parts, codes, costs.operations[kind])


def _groups(
    table: pd.DataFrame, op: str, columns: tuple[str, ...]
) -> Iterator[tuple[Alike, NDArray[np.intp]]]:
    named = table["kernel_source"] if "kernel_source" in table.columns else None
    keys = pd.DataFrame({"dtype": table["dtype"], "kernel": named}, index=table.index)
    for name in columns:
        kind = type(Alike._field_defaults[name])
        default = Alike._field_defaults[name]
        given = flag(table, name, default) if kind is bool else number(table, name, 1.0)
        keys[name] = given.astype(kind)
    for places in keys.groupby(list(keys), dropna=False, sort=False).indices.values():
        first = keys.iloc[places[0]]
        values = {name: type(Alike._field_defaults[name])(first[name]) for name in columns}
        texts = {name: str(first[name]) for name in ("dtype", "kernel") if pd.notna(first[name])}
        yield Alike(op, **texts, **values), np.asarray(places)  # type: ignore[arg-type]


def _of_kernel(profile: HardwareProfile, alike: Alike) -> HardwareProfile:
    """The profile with the fits of the row's kernel alone, of those of its kind and format that has
    one.
    """
    fitter = fitter_of(alike.op)
    if profile.calibrated is None or fitter is None or fitter.kind not in BY_KERNEL:
        return profile
    fits: tuple[Fit, ...] = getattr(profile.calibrated, fitter.kind)

    def kind_of(fit: Fit) -> tuple[object, ...]:
        own = (fit.dtype, fit.block_scaled, getattr(fit, "serial", None))
        return getattr(fit, "op", alike.op), *own

    named = [fit for fit in fits if fit.kernel == alike.kernel]
    own = {kind_of(fit) for fit in named if kind_of(fit)[0] == alike.op}
    kept = tuple(fit for fit in fits if fit in named or kind_of(fit) not in own)
    calibrated = profile.calibrated.model_copy(update={fitter.kind: kept})
    return profile.model_copy(update={"calibrated": calibrated})


Found = tuple[str, list[Part], Sources]
Price = Callable[[CostModel, Alike, pd.DataFrame], Found]


def _moe(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    operation, layer = costs.operations["experts"], alike.layer
    rows, members = expert_shapes(table, costs.hardware).rows()
    starts = np.cumsum(members) - members
    return "experts", operation.launch(layer, rows, starts), operation.sources(layer, rows, starts)


def _gemm(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    m, n, k = (number(table, name) for name in ("m", "n", "k"))
    size = costs.model.activation_bytes
    parts = product_parts(costs.gpu, m, Weights(n, k, alike.width), alike.dtype, size)
    return "dense", parts, parts[0].source


def _attention(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    batch, context = number(table, "batch"), number(table, "context")
    prompt, cache = alike.op == "attention_prefill", Cache(alike.dtype, alike.width, alike.l2_warm)
    tokens = batch * context if prompt else batch
    keys = batch * (context * (context + 1) / 2) if prompt else batch * context
    operation = costs.operations["attention"]
    parts = operation.scores(alike.attention, cache, tokens, keys, batch * context)
    return "attention", parts, parts[0].source


def _copy(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    size, way = number(table, "bytes").astype(np.int64), alike.op.removeprefix("copy_")
    gpus = max(alike.gpus, 2) if way == "p2p" else alike.gpus
    shape = (size, way, alike.pinned, 1, gpus)
    return _found(costs, "copy", *shape)


def _all_reduce(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    return _found(costs, "all_reduce", alike.gpus, number(table, "bytes"))


def _all_to_all(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    even = costs.operations["all_to_all"].even(alike.gpus, number(table, "bytes"))
    return "all_to_all", *even


def _launch(costs: CostModel, _alike: Alike, _table: pd.DataFrame) -> Found:
    return _found(costs, "decide")


def _permute(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    rows = number(table, "tokens") * number(table, "top_k", 1.0)
    return _found(costs, "permute", alike.layer, rows)


def _of_tokens(costs: CostModel, alike: Alike, table: pd.DataFrame) -> Found:
    return _found(costs, alike.op, alike.layer, number(table, "tokens"))


def _found(costs: CostModel, kind: str, *shape: object) -> Found:
    operation = costs.operations[kind]
    return kind, operation.parts(*shape), operation.sources(*shape)


ATTENTION = ("heads", "kv_heads", "head_dim", "l2_warm")
OPERATIONS: Mapping[str, tuple[tuple[str, ...], Price]] = {
    "moe": (("hidden", "inter", "experts", "top_k", "gated", "block_scaled"), _moe),
    "gemm": ((), _gemm),
    "attention_prefill": (ATTENTION, _attention),
    "attention_decode": (ATTENTION, _attention),
    "copy_h2d": (("pinned", "gpus"), _copy),
    "copy_d2h": (("pinned", "gpus"), _copy),
    "copy_p2p": (("pinned", "gpus"), _copy),
    "all_reduce": (("gpus",), _all_reduce),
    "all_to_all": (("gpus",), _all_to_all),
    "cpu_expert": (("hidden", "inter", "gated"), _of_tokens),
    "launch": ((), _launch),
    "gate": (("hidden", "experts"), _of_tokens),
    "permute": (("hidden",), _permute),
}
"""The columns that rows which are priced together share, and their operation."""
