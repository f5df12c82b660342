"""Experts, shared experts, routers and dense networks."""

from __future__ import annotations

from dataclasses import replace

from moesim.model.blocks import GATED_NAMES, feed_forward, mixture
from moesim.model.described.context import Context
from moesim.model.described.keys import MOST_EXPERTS, ConfigError, Keys
from moesim.model.formats import FP32
from moesim.model.spec import FfnSpec, MoeSpec
from moesim.model.weights import NOTHING, Size

_PLAIN_NAMES = ("up_proj", "down_proj")
_UNGATED = ("relu2",)
"""Activations of networks with two matrices."""


def experts_of(keys: Keys, index: int) -> tuple[int, int]:
    """Experts of layer ``index`` and how many of them a token takes."""
    experts = keys.of_layer("experts", index, most=MOST_EXPERTS)
    top_k = keys.of_layer("top_k", index)
    if keys.name("top_k") is None or top_k == 0:
        raise ConfigError("", "no key says how many experts a token takes (num_experts_per_tok)")
    if top_k > experts:
        name = keys.name("top_k") or ""
        raise ConfigError(
            name, f"a token cannot choose {top_k} of {experts} experts; lower the top-k"
        )
    return experts, top_k


def dense(context: Context, index: int) -> FfnSpec:
    """The dense network of layer ``index``."""
    width = context.keys.of_layer("width", index)
    if not width:
        raise ConfigError("", f"layer {index} is dense, and no key says its intermediate_size")
    return _network(context, f"model.layers.{index}.mlp", context.hidden, width)


def moe(context: Context, index: int, beside: int = 0) -> MoeSpec:
    """The mixture of layer ``index``, with a dense network of ``beside`` beside it."""
    keys, module = context.keys, f"model.layers.{index}.mlp"
    experts, top_k = experts_of(keys, index)
    outside = keys.number("expert_input")
    expert = _network(
        context, f"{module}.experts.0", outside or context.hidden, _expert_width(keys, index),
        bias=context.habits.expert_bias,
    )  # fmt: skip
    found = mixture(
        context.weights, experts + keys.number("zero_expert_num"), top_k,
        replace(expert, hidden_size=context.hidden),
        bias=context.habits.router_bias,
        correction=context.weights.table(experts, FP32) if context.habits.correction else NOTHING,
    )  # fmt: skip
    shared = _shared(context, index, beside)
    if outside:
        shared = _around(context, module, shared, outside)
    if nothing := keys.number("zero_expert_num"):
        keys.note(f"{nothing} of the router's choices are no expert: each token is counted full")
    return replace(found, experts=experts, expert=expert, shared=shared)


def _expert_width(keys: Keys, index: int) -> int:
    width = keys.of_layer("expert_width", index)
    if not width:
        raise ConfigError("", "no key says an expert's width (moe_intermediate_size); add it")
    return width


def _shared(context: Context, index: int, beside: int) -> FfnSpec | None:
    """Shared experts as one network of their joint width."""
    keys, habits = context.keys, context.habits
    count = keys.of_layer("shared", index, habits.shared)
    width, each = keys.of_layer("shared_width", index), _expert_width(keys, index)
    joint = count * each if not width else width * max(count, 1)
    if width and width == count * each:
        joint = width
    if not joint and (keys.flag("enable_moe_block") or keys.flag("residual_moe")):
        joint = keys.of_layer("width", index)
    if not joint + beside:
        return None
    gate = context.vectors(context.hidden if habits.shared_gate else 0)
    module = f"model.layers.{index}.mlp.shared_expert"
    return _network(context, module, context.hidden, joint + beside, extra=gate)


def _around(context: Context, module: str, shared: FfnSpec | None, inside: int) -> FfnSpec:
    """``shared`` with the two matrices into the experts' smaller space and out of it."""
    added = _network(context, f"{module}.latent", context.hidden, inside, names=_PLAIN_NAMES)
    if shared is None:
        return added
    matrices = 3 if shared.gated else 2
    width = shared.intermediate_size + -(-2 * inside // matrices)
    return replace(
        shared, intermediate_size=width, parameters=shared.parameters + added.parameters,
        bytes=shared.bytes + added.bytes,
    )  # fmt: skip


def _network(
    context: Context, module: str, hidden: int, width: int, *, extra: Size = NOTHING,
    bias: bool = False, names: tuple[str, ...] | None = None,
) -> FfnSpec:  # fmt: skip
    activation = str(context.keys.value("activation") or "")
    usual = _PLAIN_NAMES if activation in _UNGATED else GATED_NAMES
    bias = bias or context.keys.flag("bias")
    return feed_forward(
        context.weights, module, hidden, width, bias=bias, extra=extra, names=names or usual
    )
