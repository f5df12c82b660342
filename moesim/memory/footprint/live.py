"""What lives in a forward pass beside weights and cache, at the moment when that is most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.model.spec import ModelSpec

Ints = NDArray[np.int64]
MASK_BYTES = 15
"""Bytes an element of the masks while they are built: three fp32 tensors, a boolean and an fp16 one
(arXiv 2303.06182)."""
KEPT_MASK_BYTES = 5
"""Those that are left for the products: the boolean one and its fp16 copy, and the fp16 one."""
COUNTS = ("moved", "received", "inside", "masks", "positions", "places")
LIVE = ("activations", "masks", "all_to_all_buffers")


@dataclass(frozen=True, eq=False)
class LayerRows:
    """Rows in the MoE layer of a pass that has most, int64[passes, gpus] each, padding included.

    ``moved``: in buffers of exchanges, what is sent and what comes; ``received`` by its experts;
    ``inside``: those whose inner activations live at once (of all its experts, or of one after the
    other). ``masks``: elements of tokens x experts x capacity, 0 without masks. ``positions``:
    tokens x experts x choices of a gate that pads, ``places``: tokens x capacity x choices of one
    that builds masks. ``padded``: rows have places of their own beside those that they come from,
    whether anything fills them or not.
    """

    moved: Ints
    received: Ints
    inside: Ints
    masks: Ints
    positions: Ints
    places: Ints
    padded: bool

    @classmethod
    def joined(cls, parts: Sequence[LayerRows]) -> LayerRows:
        """The passes of ``parts``, one after the other."""
        every = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COUNTS}
        return cls(**every, padded=parts[0].padded)

    def of_pass(self, number: int) -> LayerRows:
        """One pass alone."""
        one = slice(number, number + 1)
        return LayerRows(**{name: getattr(self, name)[one] for name in COUNTS}, padded=self.padded)

    def times(self, more: int, of: int) -> LayerRows:
        """As many rows for ``more`` tokens as these are for ``of``, and by its square what has a
        capacity.
        """
        found = {name: -(-getattr(self, name) * more // of) for name in COUNTS}
        for name in ("masks", "places"):
            found[name] = np.ceil(getattr(self, name) * (more / of) ** 2).astype(np.int64)
        return LayerRows(**found, padded=self.padded)


@dataclass(frozen=True)
class Widths:
    """Bytes of a hidden row, of a row inside an expert, and of a token's logits; of a ``score`` of
    attention in all heads, and of the gate's ``position`` and ``place`` (``LayerRows``).
    """

    row: int
    inner: int
    logits: int
    score: int = 0
    position: int = 0
    place: int = 0

    @classmethod
    def of(cls, model: ModelSpec, logit_bytes: int, *, fused: bool) -> Widths:
        """``fused`` kernels hold what their first product gives (gate and up together), others what
        the activation makes of it too.
        """
        moe = max((layer.moe for layer in model.moe_layers if layer.moe), key=lambda m: m.top_k)
        copies = (2 if moe.expert.gated else 1) + (0 if fused else 1)
        inner = moe.expert.intermediate_size * copies * model.activation_bytes
        row = model.hidden_size * model.activation_bytes
        return cls(row, inner, model.vocab_size * logit_bytes)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Of a pass, int64[passes, gpus] each: those that are ``present``, those with ``logits``, and
    the pairs of a token and a key that attention ``scores``.
    """

    present: Ints
    logits: Ints
    scores: Ints


def live_parts(widths: Widths, rows: LayerRows, tokens: Tokens) -> dict[str, Ints]:
    """Bytes int64[passes, gpus] of the ``LIVE`` categories, when they are most: while masks are
    built, while experts compute, while there are logits, or scores of attention.

    Four hidden rows a token always live; with experts, their outputs, their inner activations and
    the rows in buffers; with masks, the positions that they are built from.
    """
    nothing, hidden = np.zeros_like(tokens.present), tokens.present * (4 * widths.row)
    positions = rows.positions * widths.position + rows.places * widths.place
    buffers = rows.moved * widths.row
    outputs = rows.received * (widths.row * (2 if rows.padded else 1))
    computing = hidden + outputs + rows.inside * widths.inner
    moments = np.array(
        [
            (hidden, MASK_BYTES * rows.masks + positions, nothing),
            (computing, KEPT_MASK_BYTES * rows.masks, buffers),
            (hidden + tokens.logits * widths.logits, nothing, nothing),
            (hidden + tokens.scores * widths.score, nothing, nothing),
        ]
    )
    most = moments.sum(axis=1).argmax(axis=0)
    fullest = np.take_along_axis(moments, most[None, None], axis=0)[0]
    return dict(zip(LIVE, fullest, strict=True))
