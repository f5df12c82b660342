"""The shapes to measure: those of the user's models, or a set that suits the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from moesim.model.loader import load_model
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec


class ExpertShape(NamedTuple):
    """Expert networks of one kind of layer."""

    hidden: int
    inter: int
    experts: int
    top_k: int
    gated: bool

    @property
    def matrices(self) -> int:
        """Matrices of one expert."""
        return 3 if self.gated else 2

    @property
    def elements(self) -> int:
        """Weights of one expert."""
        return self.hidden * self.inter * self.matrices


class AttentionShape(NamedTuple):
    """Heads of an attention block; ``head_dim`` is the size of a key."""

    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Shapes:
    """What to measure: ``products`` are (n, k) of x [m, k] times a matrix [k, n]."""

    experts: tuple[ExpertShape, ...]
    attention: tuple[AttentionShape, ...]
    products: tuple[tuple[int, int], ...]


DEFAULT_CARDS = ("gpt-oss-20b", "qwen3-30b-a3b", "mixtral-8x7b", "deepseek-v2-lite")
"""Small and large experts, few and many; measured on a GPU where no model is named."""
SMALL = Shapes(
    experts=(
        ExpertShape(256, 512, 8, 2, gated=True),
        ExpertShape(512, 1024, 16, 4, gated=True),
        ExpertShape(768, 2048, 8, 2, gated=True),
        ExpertShape(1024, 512, 32, 4, gated=True),
    ),
    attention=(AttentionShape(8, 8, 64), AttentionShape(16, 4, 64), AttentionShape(8, 2, 128)),
    products=((512, 512), (1536, 512), (1024, 2048), (4096, 1024), (32000, 512)),
)
"""What a CPU manages in minutes; measured there where no model is named."""


def shapes_for(models: Sequence[str], device: str) -> Shapes:
    """The shapes of ``models`` (cards or paths of config.json), else those for ``device``.

    InputError for a model that cannot be read.
    """
    if not models and device == "cpu":
        return SMALL
    return joined(shapes_of(load_model(name)) for name in models or DEFAULT_CARDS)


def joined(parts: Iterable[Shapes]) -> Shapes:
    """All shapes, each once, in order."""
    listed = list(parts)
    return Shapes(
        experts=tuple(dict.fromkeys(shape for part in listed for shape in part.experts)),
        attention=tuple(dict.fromkeys(shape for part in listed for shape in part.attention)),
        products=tuple(dict.fromkeys(shape for part in listed for shape in part.products)),
    )


def shapes_of(model: ModelSpec) -> Shapes:
    """The expert networks, attention and dense products of a model, each once."""
    layers = [_layer(layer, model.hidden_size) for layer in model.layers]
    head = Shapes((), (), ((model.vocab_size, model.hidden_size),))
    return joined([*layers, head])


def _layer(layer: LayerSpec, hidden: int) -> Shapes:
    blocks = [one for one in (layer.attention, layer.cross_attention) if one and one.heads]
    products = [product for block in blocks for product in _projections(block, hidden)]
    experts: tuple[ExpertShape, ...] = ()
    if layer.moe is not None:
        expert = layer.moe.expert
        shape = (expert.hidden_size, expert.intermediate_size, layer.moe.experts)
        experts = (ExpertShape(*shape, layer.moe.top_k, expert.gated),)
    for network in (layer.dense, layer.moe.shared if layer.moe else None):
        products += _network(network)
    return Shapes(experts, tuple(map(_attention, blocks)), tuple(products))


def _attention(block: AttentionSpec) -> AttentionShape:
    return AttentionShape(block.heads, block.kv_heads, block.query_key_head_size)


def _projections(block: AttentionSpec, hidden: int) -> list[tuple[int, int]]:
    query = block.heads * block.query_key_head_size
    key = block.kv_heads * block.query_key_head_size
    joint = query + key + block.kv_heads * block.value_head_size
    return [
        (query, hidden),
        (key, hidden),
        (joint, hidden),
        (hidden, block.heads * block.value_head_size),
    ]


def _network(network: FfnSpec | None) -> list[tuple[int, int]]:
    if network is None:
        return []
    hidden, inter = network.hidden_size, network.intermediate_size
    return [(inter, hidden), (hidden, inter)]
