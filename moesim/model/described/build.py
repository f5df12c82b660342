"""A described model, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from moesim.model.described.attention import attending
from moesim.model.described.context import Context
from moesim.model.described.habits import habits_of
from moesim.model.described.keys import (
    MOST_EXPERTS,
    NAMES,
    ConfigError,
    Keys,
    expert_hints,
    language_model,
)
from moesim.model.described.networks import dense, moe
from moesim.model.described.plan import (
    CONV,
    DENSE,
    LINEAR,
    MAMBA,
    MOE,
    NONE,
    LayerPlan,
    plan_of,
)
from moesim.model.described.state import stateful
from moesim.model.formats import PLAIN
from moesim.model.quantization import EMBEDDING, HEAD, QuantizationConfig
from moesim.model.spec import (
    NO_ATTENTION,
    AttentionSpec,
    LayerSpec,
    ModelSpec,
    predicting_layer,
)
from moesim.model.weights import NOTHING, Size, Weights

_STATES = (LINEAR, MAMBA, CONV)
_TOWERS = ("vision_config", "audio_config", "vision_tower_config", "visual")


def describe_config(config: Mapping[str, Any], name: str) -> ModelSpec:
    """The model in ``config``, called ``name``; its notes say what is not known of it.

    ConfigError where it has no experts, or contradicts itself.
    """
    flat = language_model(config)
    keys = Keys(flat)
    _has_experts(keys)
    weights, habits = _weights(flat), habits_of(flat)
    context = Context(keys, weights, habits, keys.needed("hidden"))
    plans = plan_of(keys, habits)
    layers = tuple(_layer(context, index, plan) for index, plan in enumerate(plans))
    if any(isinstance(config.get(tower), Mapping) for tower in _TOWERS):
        keys.note("the towers for images and sound are not counted")
    return _model(context, layers, name)


def _has_experts(keys: Keys) -> None:
    value = keys.value("experts")
    experts = value if isinstance(value, list) else [keys.number("experts", 0, MOST_EXPERTS)]
    if any(isinstance(number, int) and number > 1 for number in experts):
        return
    hints = expert_hints(keys.config)
    said = f"; {', '.join(hints[:4])} may say them under another name" if hints else ""
    kind = keys.config.get("model_type")
    raise ConfigError(
        "", f"has no experts{f' (model_type {kind!r})' if kind else ''}: none of "
        f"{', '.join(NAMES['experts'][:5])} says more than one{said}; moesim is about models with "
        "routed experts (docs/models.md)",
    )  # fmt: skip


def _weights(config: Mapping[str, Any]) -> Weights:
    said = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    plain = PLAIN.get(said.removeprefix("torch."), PLAIN["bfloat16"])
    block = config.get("quantization_config")
    if isinstance(block, QuantizationConfig):
        return Weights(plain, block)
    if not isinstance(block, Mapping) or not block:
        return Weights(plain)
    if config.get("expert_dtype") and "expert_dtype" not in block:
        block = {**block, "expert_dtype": config["expert_dtype"]}
    try:
        return Weights(plain, QuantizationConfig.model_validate({"quant_method": "", **block}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("quantization_config", *first["loc"]))
        raise ConfigError(place, first["msg"].removeprefix("Value error, ")) from None


def _layer(context: Context, index: int, plan: LayerPlan) -> LayerSpec:
    blocks = (plan.mixer != NONE) + (plan.network != "")
    norms = context.vectors(_norms(context, blocks))
    beside = context.keys.of_layer("width", index) if context.habits.double else 0
    return LayerSpec(
        index=index,
        stack="decoder",
        attention=_attention(context, index, plan.mixer),
        cross_attention=None,
        dense=dense(context, index) if plan.network == DENSE else None,
        moe=moe(context, index, beside) if plan.network == MOE else None,
        norm_parameters=norms.parameters,
        norm_bytes=norms.bytes,
    )


def _norms(context: Context, blocks: int) -> int:
    """Elements of a layer's norms, and of what mixes several streams of hidden vectors."""
    count = context.habits.norms if blocks > 1 else 1
    shifted = 2 if context.habits.layer_norm_bias else 1
    elements = count * shifted * context.hidden
    if streams := context.keys.number("hc_mult"):
        mixed = (2 + streams) * streams
        elements += blocks * (mixed * (streams * context.hidden + 1) + 3)
    if narrow := context.keys.number("hidden_size_per_layer_input"):
        elements += (2 * narrow + 1) * context.hidden
    return elements


def _attention(context: Context, index: int, kind: str) -> AttentionSpec:
    if kind == NONE:
        return NO_ATTENTION
    return (stateful if kind in _STATES else attending)(context, index, kind)


def _model(context: Context, layers: tuple[LayerSpec, ...], name: str) -> ModelSpec:
    keys, weights, hidden = context.keys, context.weights, context.hidden
    vocabulary = keys.needed("vocabulary")
    embedding = weights.linear(EMBEDDING, vocabulary, hidden)
    tied = keys.flag("tie_word_embeddings", default=context.habits.tied)
    head = NOTHING if tied else weights.linear(HEAD, vocabulary, hidden)
    tables = _tables(context, len(layers)) + _other_experts(context, layers)
    other = tables + context.vectors(_ends(context))
    extra, count = _mtp(context, layers)
    if weights.quantization is not None:
        for note in weights.quantization.notes:
            keys.note(note)
    return ModelSpec(
        name=name, family=str(keys.config.get("model_type") or "described"), layers=layers,
        hidden_size=hidden, vocab_size=vocabulary,
        embedding_parameters=embedding.parameters, embedding_bytes=embedding.bytes,
        head_parameters=head.parameters, head_bytes=head.bytes,
        other_parameters=other.parameters, other_bytes=other.bytes,
        activation_bytes=weights.plain.element_bytes,
        longest_context=keys.number("context") or None,
        lookup_parameters=tables.parameters,
        mtp_layers=count, mtp_parameters=extra.parameters, mtp_bytes=extra.bytes,
        notes=tuple(keys.notes),
    )  # fmt: skip


def _ends(context: Context) -> int:
    """Elements of the last norm and of what joins several streams there."""
    shifted = 2 if context.habits.layer_norm_bias else 1
    streams = context.keys.number("hc_mult")
    return shifted * context.hidden + (
        streams * (streams * context.hidden + 1) + 1 if streams else 0
    )


def _tables(context: Context, layers: int) -> Size:
    """Tables of which a token reads rows: embeddings a layer, and those of n-grams."""
    keys = context.keys
    rows = keys.number("vocab_size_per_layer_input") or keys.number("vocabulary")
    narrow = layers * keys.number("hidden_size_per_layer_input")
    size = context.weights.linear(EMBEDDING, rows, narrow) if narrow else NOTHING
    grams = keys.value("engram_num_embeddings")
    if isinstance(grams, list):
        counts = [keys.checked("engram_num_embeddings", one) for one in grams]
        size += context.weights.linear(EMBEDDING, sum(counts), keys.number("engram_head_dim"))
        keys.note("tables of n-grams (engram) are counted in memory; what they read is not priced")
    return size


def _other_experts(context: Context, layers: tuple[LayerSpec, ...]) -> Size:
    """Experts of a second kind, which serve images: a list says how many there are of each."""
    keys = context.keys
    counts, widths = keys.value("experts"), keys.value("expert_width")
    if not (isinstance(counts, list) and isinstance(widths, list)) or len(counts) >= len(layers):
        return NOTHING
    keys.note("experts for images are counted in memory; tokens of a trace take the first kind")
    mixtures = sum(layer.moe is not None for layer in layers)
    total = NOTHING
    for count, width in list(zip(counts, widths, strict=False))[1:]:
        rows = keys.checked("moe_num_experts", count) * keys.checked("moe_intermediate_size", width)
        module = "model.layers.0.mlp.experts.0.up_proj"
        total += context.weights.linear(module, 3 * mixtures * rows, context.hidden)
    return total


def _mtp(context: Context, layers: tuple[LayerSpec, ...]) -> tuple[Size, int]:
    """Layers that predict further tokens: as the last with experts, and a product before each."""
    keys = context.keys
    if not (count := keys.number("mtp", most=64)):
        return NOTHING, 0
    last, hidden = predicting_layer(layers), context.hidden
    size = Size(last.parameters, last.bytes) + context.vectors(3 * hidden)
    size += context.weights.linear("mtp.eh_proj", hidden, 2 * hidden)
    return Size(count * size.parameters, count * size.bytes), count
