"""Attention and feed-forward blocks that families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moesim.model.formats import Plain
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec
from moesim.model.weights import NOTHING, Size, Weights

GATED_NAMES = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class HeadShape:
    """Heads of an attention block: how many, how many for keys and values, and their size."""

    heads: int
    kv_heads: int
    size: int


@dataclass(frozen=True)
class Projections:
    """The products of an attention block: which have biases, and the names of their weights."""

    input_bias: bool = False
    output_bias: bool = False
    inputs: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj")
    output: str = "o_proj"


PLAIN = Projections()


def attention(
    weights: Weights,
    module: str,
    hidden_size: int,
    shape: HeadShape,
    projections: Projections = PLAIN,
    *,
    extra: Size = NOTHING,
    window: int | None = None,
    cached: bool = True,
) -> AttentionSpec:
    """Multi-head or grouped-query attention; ``extra``: query-key norms, sinks, position biases."""
    query_width, kv_width = shape.heads * shape.size, shape.kv_heads * shape.size
    output = f"{module}.{projections.output}"
    size = extra + weights.linear(output, hidden_size, query_width, bias=projections.output_bias)
    for name, width in zip(projections.inputs, (query_width, kv_width, kv_width), strict=True):
        module_name, bias = f"{module}.{name}", projections.input_bias
        size += weights.linear(module_name, width, hidden_size, bias=bias)
    return AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        query_key_head_size=shape.size,
        value_head_size=shape.size,
        window=window,
        parameters=size.parameters,
        bytes=size.bytes,
        kv_bytes_per_token=2 * kv_width * weights.plain.element_bytes if cached else 0,
    )


def feed_forward(
    weights: Weights,
    module: str,
    hidden_size: int,
    intermediate_size: int,
    *,
    bias: bool = False,
    extra: Size = NOTHING,
    names: Sequence[str] = GATED_NAMES,
) -> FfnSpec:
    """A network with the matrices ``names``, the last one down; with three of them it is gated."""
    down = f"{module}.{names[-1]}"
    size = extra + weights.linear(down, hidden_size, intermediate_size, bias=bias)
    for name in names[:-1]:
        size += weights.linear(f"{module}.{name}", intermediate_size, hidden_size, bias=bias)
    written = weights.format_of(down, hidden_size, intermediate_size)
    return FfnSpec(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        gated=len(names) == len(GATED_NAMES),
        parameters=size.parameters,
        bytes=size.bytes,
        dtype=weights.format_of(f"{module}.{names[0]}", intermediate_size, hidden_size).name,
        block=written.inputs_block,
        static_input=written.static_input,
    )


def mixture(
    weights: Weights,
    experts: int,
    top_k: int,
    expert: FfnSpec,
    *,
    shared: FfnSpec | None = None,
    bias: bool = False,
    correction: Size = NOTHING,
    router_format: Plain | None = None,
) -> MoeSpec:
    """Routed experts and their router: a matrix hidden x experts, its bias, a score correction."""
    elements = experts * (expert.hidden_size + (1 if bias else 0))
    router = weights.table(elements, router_format) + correction
    return MoeSpec(experts, top_k, expert, shared, router.parameters, router.bytes)
