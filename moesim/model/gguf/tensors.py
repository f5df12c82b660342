"""What a tensor is, by the name that llama.cpp's converters give it (gguf-py, MIT)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from moesim.model.gguf.header import Tensor
from moesim.model.gguf.types import BY_NUMBER
from moesim.model.weights import NOTHING, Size

EXPERTS, SHARED, ROUTER, DENSE = "experts", "shared", "router", "dense"
ATTENTION, NORMS, MTP = "attention", "norms", "mtp"
EMBEDDING, HEAD, OTHER, LOOKUP = "embedding", "head", "other", "lookup"
_BLOCK = re.compile(r"^blk\.(\d+)\.(.+)$")
_CLASSES = tuple(
    (re.compile(pattern), found)
    for pattern, found in (
        (r"^nextn\.", MTP),
        (r"^ffn_(gate_|up_|down_|gate_up_)(ch)?exps\b", EXPERTS),
        (r"^ffn_(gate|up|down)\.\d+\.", EXPERTS),
        (r"shexp", SHARED), (r"^ffn_latent", SHARED), (r"^ffn_gate_inp", ROUTER),
        (r"^(ffn_)?exp_probs", ROUTER), (r"^ffn_gate_tid2eid", ROUTER),
        (r"^(attn|ssm|indexer|shortconv)\w*_norm|^attn_sub_norm", ATTENTION),
        (r"norm", NORMS), (r"^hc_|^layer_output_scale", NORMS),
        (r"^ffn_(gate|up|down|gate_up)\b", DENSE),
        (r"^(attn|ssm|indexer|shortconv|time_mix|compressor)", ATTENTION),
    )
)  # fmt: skip
"""By the part of a name behind its block, the first that is found."""
_BLOCK_NORMS = re.compile(r"^(attn|ffn)(_post)?_norm|^post_attention_norm|^attn_output_norm")
_OUTSIDE = (
    ("per_layer_token_embd", LOOKUP), ("token_embd_norm", OTHER), ("token_embd", EMBEDDING),
    ("output_norm", OTHER), ("output.", HEAD),
)  # fmt: skip


@dataclass
class Block:
    """The tensors of one layer by class, and by the part of their name behind the layer's."""

    classes: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, Tensor] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    def size(self, *classes: str) -> Size:
        """Elements and bytes of classes."""
        return size_of(tensor for one in classes for tensor in self.classes.get(one, ()))

    def named(self, *beginnings: str) -> Tensor | None:
        """The first matrix whose name begins so."""
        found = (one for name, one in self.names.items() if name.startswith(beginnings))
        return next((one for one in found if len(one.shape) > 1), None)


def size_of(tensors: Iterable[Tensor]) -> Size:
    """Elements and bytes of ``tensors``."""
    total = NOTHING
    for tensor in tensors:
        total += Size(tensor.elements, tensor.bytes)
    return total


def sorted_tensors(
    tensors: Iterable[Tensor],
) -> tuple[dict[int, Block], Mapping[str, list[Tensor]]]:
    """The layers by number, and what stands outside of them by class."""
    blocks: dict[int, Block] = defaultdict(Block)
    outside: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if (found := _BLOCK.match(tensor.name)) is None:
            kinds = (kind for start, kind in _OUTSIDE if tensor.name.startswith(start))
            outside[next(kinds, OTHER)].append(tensor)
            continue
        block, name = blocks[int(found[1])], found[2]
        kind = class_of(name)
        if kind is None:
            block.strange.append(name)
        block.classes[kind or ATTENTION].append(tensor)
        block.names[name] = tensor
    return blocks, outside


def class_of(name: str) -> str | None:
    """The class of a tensor by its name behind ``blk.N.``; None for one that nobody knows."""
    if _BLOCK_NORMS.match(name):
        return NORMS
    return next((found for pattern, found in _CLASSES if pattern.search(name)), None)


def type_of(tensors: Iterable[Tensor]) -> str:
    """The type with most bytes; eight bits where nobody knows it."""
    found: Counter[str] = Counter()
    for tensor in tensors:
        found[tensor.type_name if tensor.type in BY_NUMBER else "int8"] += tensor.bytes
    return found.most_common(1)[0][0]
