"""What a model is to the simulator: parameters and bytes of every part, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property


@dataclass(frozen=True)
class FfnSpec:
    """A feed-forward network: one routed expert, a shared expert or a dense layer's.

    ``gated`` networks have three matrices (gate, up, down), others two. ``parameters`` counts
    biases; ``bytes`` also counts the scales and zero points of quantised weights. ``dtype`` is the
    number format of the matrices: bf16, fp16, fp32, fp8, mxfp4, nvfp4, int4, ... ``block``: inner
    channels that share a scale, which no GPU has a part of. ``static_input``: inputs have a scale
    that was set before, and none of their own. ``unpacking_bytes`` are written and
    read before each product, where software unpacks the matrices first. Matrices of a ``rank`` are
    products of two of that inner size (0: they are not). An expert may be the sum of ``parts``, of
    which ``resident_bytes`` stay on the GPU; its ``bytes`` are then the others. Host memory has
    ``reused_bytes`` of what stays there, too, since the next token may need others.
    """

    hidden_size: int
    intermediate_size: int
    gated: bool
    parameters: int
    bytes: int
    dtype: str
    block: int = 1
    static_input: bool = False
    unpacking_bytes: int = 0
    rank: int = 0
    parts: tuple[FfnSpec, ...] = ()
    resident_bytes: int = 0
    reused_bytes: int = 0

    @property
    def stored_bytes(self) -> int:
        """What host memory and storage hold of it."""
        return self.bytes + self.reused_bytes

    @property
    def matrices(self) -> int:
        """How many it has."""
        return 3 if self.gated else 2

    @property
    def matrix_elements(self) -> int:
        """Weights of its matrices, without biases."""
        hidden, inner = self.hidden_size, self.intermediate_size
        of_matrix = self.rank * (hidden + inner) if self.rank else hidden * inner
        return of_matrix * self.matrices


LATENT = "latent"
"""The kind of multi-head latent attention."""
DELTA = "gated delta net"
"""The kind of linear attention with a constant state of Qwen3-Next and Qwen3.5."""


@dataclass(frozen=True)
class AttentionSpec:
    """An attention block without its layer norm.

    ``window`` is the sliding window in tokens, None for full attention. ``kv_bytes_per_token`` is
    what one cached token takes in this layer: keys and values of all key-value heads, or the
    compressed latent of multi-head latent attention; 0 where nothing is cached (encoders); bytes a
    *source* token in cross attention.

    ``kind`` is what it is called where the time knows no more than its bytes. A layer with a
    constant state has it in ``state_bytes`` and stands for a window of the tokens that its kernel
    takes at once, which together take as much as the state (docs/semantics.md). Attention that is
    sparse by an index reads ``index_bytes_per_token`` of every cached token (they are part of
    ``kv_bytes_per_token``), and the rest of ``selected`` tokens only. ``dtype`` is the number
    format of its matrices; None where their width says it. ``cache_dtype`` is that of what is
    cached, None where it is the activations'.
    """

    heads: int
    kv_heads: int
    query_key_head_size: int
    value_head_size: int
    window: int | None
    parameters: int
    bytes: int
    kv_bytes_per_token: int
    kind: str = "full"
    state_bytes: int = 0
    selected: int | None = None
    index_bytes_per_token: int = 0
    dtype: str | None = None
    cache_dtype: str | None = None

    @property
    def latent(self) -> bool:
        """Whether one compressed latent is all that is cached of a token, for all heads."""
        return self.kind == LATENT


NO_ATTENTION = AttentionSpec(0, 0, 0, 0, None, 0, 0, 0, kind="none")
"""Of a layer that is a feed-forward network alone."""


@dataclass(frozen=True)
class MoeSpec:
    """A mixture of ``experts`` equal networks, of which a token takes ``top_k``.

    ``shared`` serves every token (several shared experts are one network of their joint width, and
    its gate is counted in it). The router's parameters include its bias or score correction.
    ``varies``: some tokens take fewer.
    """

    experts: int
    top_k: int
    expert: FfnSpec
    shared: FfnSpec | None
    router_parameters: int
    router_bytes: int
    varies: bool = False

    @property
    def chooses(self) -> bool:
        """Whether there is a choice to make: one expert that every token takes is a dense network,
        without gate, and without rows that are reordered.
        """
        return self.experts > 1 or self.varies

    @property
    def parameters(self) -> int:
        """All experts, the shared expert and the router."""
        shared = self.shared.parameters if self.shared else 0
        return self.experts * self.expert.parameters + shared + self.router_parameters

    @property
    def bytes(self) -> int:
        """Bytes of all experts, the shared expert and the router."""
        shared = self.shared.bytes if self.shared else 0
        return self.expert_bytes + shared + self.router_bytes

    @property
    def expert_bytes(self) -> int:
        """Bytes of all experts."""
        return self.experts * (self.expert.bytes + self.expert.resident_bytes)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: ``top_k`` experts, the shared expert and the router."""
        return self.parameters - (self.experts - self.top_k) * self.expert.parameters


@dataclass(frozen=True)
class LayerSpec:
    """One layer of the ``decoder`` or ``encoder`` stack, either ``dense`` or a mixture (``moe``).

    Models whose layers are one block each have layers of attention alone (neither of the two) and
    of a network alone (NO_ATTENTION).

    ``index`` is the layer's position in ``ModelSpec.layers``, so it is unique over both stacks.
    ``on_host``: the host runs it, with its KV cache in host memory. ``copied``: its weights are in
    host memory, and are copied to the GPU each time that it runs; ``zero_copy``: its kernels read
    there what they need.
    """

    index: int
    stack: str
    attention: AttentionSpec
    cross_attention: AttentionSpec | None
    dense: FfnSpec | None
    moe: MoeSpec | None
    norm_parameters: int
    norm_bytes: int
    on_host: bool = False
    copied: bool = False
    zero_copy: bool = False

    def __post_init__(self) -> None:
        assert self.dense is None or self.moe is None, "a layer is either dense or a mixture"

    @property
    def feed_forward(self) -> FfnSpec | MoeSpec | None:
        """The dense network or the mixture; None in a layer of attention alone."""
        return self.moe or self.dense

    @property
    def parameters(self) -> int:
        """Attention, feed-forward (all experts) and norms."""
        cross = self.cross_attention.parameters if self.cross_attention else 0
        own = self.attention.parameters + self.norm_parameters
        return own + cross + (self.feed_forward.parameters if self.feed_forward else 0)

    @property
    def expert_bytes(self) -> int:
        """Bytes of all routed experts."""
        return self.moe.expert_bytes if self.moe else 0

    @property
    def link_bytes(self) -> int:
        """What comes from the host each time that it runs, but for experts that are read there."""
        if self.zero_copy:
            return self.bytes - self.expert_bytes
        return self.bytes if self.copied else 0

    @property
    def gpu_kv_bytes_per_token(self) -> int:
        """What a token's keys and values take of the GPU's memory."""
        return 0 if self.on_host else self.attention.kv_bytes_per_token

    @property
    def bytes(self) -> int:
        """Bytes of attention, feed-forward (all experts) and norms."""
        cross = self.cross_attention.bytes if self.cross_attention else 0
        network = self.feed_forward.bytes if self.feed_forward else 0
        return self.attention.bytes + self.norm_bytes + cross + network


@dataclass(frozen=True)
class ModelSpec:
    """A whole model; encoder layers come first.

    The head has 0 parameters where it is tied to the embedding. ``other`` holds final norms and
    learned position tables. ``activation_bytes`` is the size of one activation element;
    ``longest_context`` the most tokens of a request, None where the configuration does not say.
    ``lookup_parameters`` of ``other`` are tables of which a token reads single rows. Layers that
    predict further tokens (``mtp``) are no part of the model: no run executes them.
    ``vocab_parts``: GPUs that share embedding and head, of which this holds one's rows.
    ``drafting_layers`` are those of what drafts beside it, of which a GPU has keys and values, too:
    their index goes on behind the model's own, and their weights are part of ``other``. ``notes``
    say what of the model is not known or not priced as it is, a sentence each.
    """

    name: str
    family: str
    layers: tuple[LayerSpec, ...]
    hidden_size: int
    vocab_size: int
    embedding_parameters: int
    embedding_bytes: int
    head_parameters: int
    head_bytes: int
    other_parameters: int
    other_bytes: int
    activation_bytes: int
    longest_context: int | None = None
    lookup_parameters: int = 0
    mtp_layers: int = 0
    mtp_parameters: int = 0
    mtp_bytes: int = 0
    vocab_parts: int = 1
    drafting_layers: tuple[LayerSpec, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        outside = self.embedding_parameters + self.head_parameters + self.other_parameters
        return outside + sum(layer.parameters for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes of all weights, with quantisation scales."""
        outside = self.embedding_bytes + self.head_bytes + self.other_bytes
        return outside + sum(layer.bytes for layer in self.layers)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with.

        All but the experts not chosen and the embedding table (a lookup reads one row); a head tied
        to the table counts. Some published counts add an untied table: ``embedding_parameters``
        more.
        """
        mixtures = [layer.moe for layer in self.layers if layer.moe is not None]
        idle = sum(moe.parameters - moe.active_parameters for moe in mixtures)
        table = self.embedding_parameters if self.head_parameters else 0
        return self.parameters - idle - table - self.lookup_parameters

    def head_matrix_bytes(self) -> int:
        """Bytes that the output product reads: the head's, or the embedding's where it is tied."""
        return self.head_bytes or self.embedding_bytes

    @cached_property
    def kinds(self) -> tuple[list[LayerSpec], list[int]]:
        """The layers that differ in more than their place, and which of them each layer is."""
        return kinds_of(self.layers)

    @cached_property
    def moe_layers(self) -> tuple[LayerSpec, ...]:
        """The layers with routed experts, in order."""
        return tuple(layer for layer in self.layers if layer.moe is not None)

    @property
    def cached_layers(self) -> tuple[LayerSpec, ...]:
        """The layers of which keys and values are kept: its own, and those of what drafts."""
        return self.layers + self.drafting_layers

    @property
    def top_k(self) -> int:
        """The most experts that a token takes of a layer; 0 where none has any."""
        return max((layer.moe.top_k for layer in self.layers if layer.moe), default=0)

    @property
    def source_bytes_per_token(self) -> int:
        """Keys and values of one source token in all layers that attend to it."""
        crossing = [layer.cross_attention for layer in self.layers if layer.cross_attention]
        return sum(block.kv_bytes_per_token for block in crossing)

    @property
    def encoder_layers(self) -> tuple[LayerSpec, ...]:
        """The encoder's layers; empty for a decoder-only model."""
        return tuple(layer for layer in self.layers if layer.stack == "encoder")

    @property
    def decoder_layers(self) -> tuple[LayerSpec, ...]:
        """The decoder's layers."""
        return tuple(layer for layer in self.layers if layer.stack == "decoder")

    @cached_property
    def has_encoder(self) -> bool:
        """Whether there is an encoder stack."""
        return bool(self.encoder_layers)


def predicting_layer(layers: Sequence[LayerSpec]) -> LayerSpec:
    """What a layer that predicts further tokens is like, but for the product before it: the last
    with experts; where that has no attention, with the last one that has.
    """
    last = next((layer for layer in reversed(layers) if layer.moe is not None), layers[-1])
    if last.attention.heads:
        return last
    block = next(layer.attention for layer in reversed(layers) if layer.attention.heads)
    return replace(last, attention=block)


def kinds_of(layers: Iterable[LayerSpec]) -> tuple[list[LayerSpec], list[int]]:
    """Those of ``layers`` that differ in more than their place, each as if it were the first one,
    in the order in which they come, and which of them each layer is.
    """
    places: dict[LayerSpec, int] = {}
    numbers = [places.setdefault(replace(layer, index=0), len(places)) for layer in layers]
    return list(places), numbers
