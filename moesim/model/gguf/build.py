"""The model that a GGUF file holds: bytes from its tensors, meaning from its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from moesim.model.described.keys import MOST_EXPERTS, MOST_LAYERS, ConfigError
from moesim.model.gguf.attention import attention_of
from moesim.model.gguf.files import headers_of, model_name
from moesim.model.gguf.header import Header, Tensor, wrong
from moesim.model.gguf.metadata import Metadata
from moesim.model.gguf.tensors import (
    DENSE,
    EMBEDDING,
    EXPERTS,
    HEAD,
    LOOKUP,
    MTP,
    NORMS,
    OTHER,
    ROUTER,
    SHARED,
    Block,
    size_of,
    sorted_tensors,
    type_of,
)
from moesim.model.gguf.types import BY_NUMBER
from moesim.model.spec import FfnSpec, LayerSpec, ModelSpec, MoeSpec
from moesim.model.weights import Size

ACTIVATION_BYTES = 2
"""llama.cpp's cache is fp16, if not asked for another."""


def load_gguf(path: Path) -> ModelSpec:
    """The model of a GGUF file, or of all parts of a split one, from headers alone.

    InputError where it is no GGUF file, or damaged, or no part of it has experts.
    """
    headers = headers_of(path)
    try:
        return _model(headers, model_name(path))
    except ConfigError as error:
        raise wrong(path, error.what, error.key) from None


def _model(headers: Sequence[Header], name: str) -> ModelSpec:
    metadata = Metadata.of(headers[0].metadata)
    blocks, outside = sorted_tensors(tensor for one in headers for tensor in one.tensors)
    _has_experts(metadata, blocks)
    plain, mtp = _apart(metadata, blocks)
    hidden = metadata.needed("embedding_length")
    layers = tuple(_layer(metadata, place, blocks[i], hidden) for place, i in enumerate(plain))
    embedding, head = size_of(outside[EMBEDDING]), size_of(outside[HEAD])
    lookup = size_of(outside[LOOKUP])
    other = size_of(outside[OTHER]) + lookup
    return ModelSpec(
        name=name, family=metadata.architecture, layers=layers, hidden_size=hidden,
        vocab_size=_vocabulary(outside), embedding_parameters=embedding.parameters,
        embedding_bytes=embedding.bytes, head_parameters=head.parameters, head_bytes=head.bytes,
        other_parameters=other.parameters, other_bytes=other.bytes,
        activation_bytes=ACTIVATION_BYTES,
        longest_context=metadata.number("context_length") or None,
        lookup_parameters=lookup.parameters,
        mtp_layers=len(mtp), mtp_parameters=sum(one.parameters for one in mtp),
        mtp_bytes=sum(one.bytes for one in mtp),
        notes=tuple(dict.fromkeys([*_notes(headers, [blocks[i] for i in plain]),
                                   *metadata.notes])),
    )  # fmt: skip


def _has_experts(metadata: Metadata, blocks: Mapping[int, Block]) -> None:
    if not blocks:
        raise ConfigError("", "has no layers (tensors 'blk.0...'); is it a model's file?")
    if max(blocks) >= MOST_LAYERS:
        raise ConfigError("", f"has a layer {max(blocks)}; it is damaged")
    if not any(block.classes.get(EXPERTS) for block in blocks.values()):
        raise ConfigError(
            "", f"has no experts (general.architecture '{metadata.architecture}'): no tensor is "
            "called ffn_*_exps; moesim is about models with routed experts (docs/models.md)",
        )  # fmt: skip


def _apart(metadata: Metadata, blocks: Mapping[int, Block]) -> tuple[list[int], list[Size]]:
    """The numbers of the model's layers, and the sizes of those that predict further tokens."""
    predicting = {i for i, block in blocks.items() if block.classes.get(MTP)}
    plain = [i for i in sorted(blocks) if i not in predicting]
    said = metadata.number("block_count")
    if said and said not in (len(plain), len(blocks)):
        what = f"{said}, but there are tensors of {len(blocks)} layers; is a part missing?"
        raise ConfigError(metadata.key("block_count"), what)
    sizes = [blocks[i].size(*blocks[i].classes) for i in sorted(predicting)]
    return plain, sizes


def _layer(metadata: Metadata, place: int, block: Block, hidden: int) -> LayerSpec:
    norms, experts = block.size(NORMS), block.classes.get(EXPERTS)
    return LayerSpec(
        index=place,
        stack="decoder",
        attention=attention_of(metadata, place, block),
        cross_attention=None,
        dense=None if experts else _network(block.classes.get(DENSE), hidden),
        moe=_mixture(metadata, place, block, hidden) if experts else None,
        norm_parameters=norms.parameters,
        norm_bytes=norms.bytes,
    )


def _mixture(metadata: Metadata, place: int, block: Block, hidden: int) -> MoeSpec:
    experts = metadata.of_layer("expert_count", place) or _stacked(block)
    top_k = metadata.of_layer("expert_used_count", place)
    if not 0 < experts <= MOST_EXPERTS:
        raise ConfigError(metadata.key("expert_count"), f"{experts}: should be above 0")
    if not 0 < top_k <= experts:
        what = f"a token cannot choose {top_k} of {experts} experts"
        raise ConfigError(metadata.key("expert_used_count"), what)
    for tensor in block.classes[EXPERTS]:
        if len(tensor.shape) > 2 and tensor.shape[-1] % experts:  # noqa: PLR2004 - matrices
            what = f"{experts}, but '{tensor.name}' holds {tensor.shape[-1]}"
            raise ConfigError(metadata.key("expert_count"), what)
    router = block.size(ROUTER)
    shared = [*block.classes.get(SHARED, ()), *block.classes.get(DENSE, ())]
    return MoeSpec(
        experts, top_k, _expert(block.classes[EXPERTS], experts, hidden),
        _network(shared, hidden), router.parameters, router.bytes,
    )  # fmt: skip


def _stacked(block: Block) -> int:
    return max((t.shape[-1] for t in block.classes[EXPERTS] if len(t.shape) > 2), default=0)  # noqa: PLR2004


def _expert(tensors: Sequence[Tensor], experts: int, hidden: int) -> FfnSpec:
    size = size_of(tensors)
    down = next(iter(_down(tensors)), None)
    return FfnSpec(
        hidden_size=down.shape[1] if down else hidden,
        intermediate_size=down.shape[0] if down else 0,
        gated=any("gate" in one.name for one in tensors),
        parameters=size.parameters // experts,
        bytes=size.bytes // experts,
        dtype=type_of(tensors),
        block=BY_NUMBER[down.type].inputs_block if down and down.type in BY_NUMBER else 1,
    )


def _network(tensors: Sequence[Tensor] | None, hidden: int) -> FfnSpec | None:
    if not tensors:
        return None
    size = size_of(tensors)
    width = sum(one.shape[0] for one in _down(tensors))
    gated = any("gate" in one.name and "inp" not in one.name for one in tensors)
    return FfnSpec(hidden, width, gated, size.parameters, size.bytes, type_of(tensors))


def _down(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of the matrices that end a network; experts' biases are stacked to one, too, and may come
    first.
    """
    named = [one for one in tensors if "ffn_down" in one.name and len(one.shape) > 1]
    return [one for one in named if not one.name.endswith(".bias")]


def _vocabulary(outside: Mapping[str, Sequence[Tensor]]) -> int:
    tables = [one for kind in (EMBEDDING, HEAD) for one in outside.get(kind, ())]
    shape = next((one.shape for one in tables if len(one.shape) > 1), None)
    if shape is None:
        raise ConfigError("", "has no table of tokens (token_embd.weight); is a part missing?")
    return shape[1]


def _notes(headers: Sequence[Header], blocks: Sequence[Block]) -> list[str]:
    found = []
    if missing := sum(header.missing_bytes for header in headers):
        found.append(f"{missing / 1e9:.1f} GB of its tensors are not in the file: it is incomplete")
    if types := [one for header in headers for one in header.strange]:
        found.append(f"{', '.join(types[:4])}: unknown, bytes are those up to the next tensor")
    if strange := list(dict.fromkeys(name for block in blocks for name in block.strange)):
        found.append(f"tensors {', '.join(strange[:4])} are unknown: counted as attention")
    return found
