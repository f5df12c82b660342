"""Gating: from routed tokens to the rows that each expert computes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer

Ints = NDArray[np.int64]
Drop = Literal["first_come", "random", "highest_gate_first", "batch_prioritised"]
"""The order in which an expert's choices are kept up to its capacity (docs/semantics.md)."""


@dataclass(frozen=True, eq=False)
class Routed:
    """Rows after gating, for p passes, l MoE layers, g senders and e experts.

    ``rows`` int64[p, l, e] rows that an expert computes, padding included; ``kept`` int64[p, l, g,
    e] choices that were routed; ``sent`` int64[p, l, g, e] rows that a GPU sends, padding included;
    ``dropped`` int64[p, l] choices lost; ``capacity`` int64[p, l] rows per sender and expert, 0
    where a gating has none.
    """

    rows: Ints
    kept: Ints
    sent: Ints
    dropped: Ints
    capacity: Ints


class Gating(Params):
    """A gating policy.

    ``uneven``: the split over GPUs depends on the counts, so they are exchanged first.
    ``invokes_all``: every local expert is executed, empty or not. ``masks``: dispatch and combine
    are dense products with masks of tokens x experts x capacity. Without masks, uneven gatings
    reorder rows, and the others encode them into the experts' places.
    """

    uneven: ClassVar[bool]
    invokes_all: ClassVar[bool]
    masks: ClassVar[bool]

    @property
    def agrees(self) -> bool:
        """Whether the GPUs agree on a capacity that follows from the counts."""
        return False

    @property
    def drops(self) -> Drop | None:
        """Which choices are kept where there is no room for all; None where nothing is lost."""
        return None

    @property
    def weighs(self) -> bool:
        """Whether the trace must have gate weights."""
        return self.drops in ("highest_gate_first", "batch_prioritised")

    def room(self, tokens: Ints, experts: int, top_k: int) -> Ints | None:
        """The capacity int64[p] of passes with ``tokens`` int64[p, g], whatever they choose; None
        where it is the largest count.
        """
        del tokens, experts, top_k
        return None

    def route(self, counts: Ints, tokens: Ints, top_k: int) -> Routed:
        """Route ``counts`` int64[p, l, g, e] (choices by sender) of ``tokens`` int64[p, g] (a
        sender's), of which each makes at most ``top_k``: by default every count is clipped at the
        capacity, and padded to it.
        """
        room = self.room(tokens, counts.shape[3], top_k)
        if room is None:
            return padded_to(largest_count(counts), counts)
        return padded_to(np.repeat(room[:, None], counts.shape[1], axis=1), counts)


def routed_by(gating: Gating, counts: Ints, tokens: Ints, top_k: int) -> Routed:
    """What ``gating`` makes of ``counts``, see ``Gating.route``; an InputError where it is of
    another shape, or no whole rows.
    """
    with answering("gating", gating):
        routed = gating.route(counts, tokens, top_k)
    if fault := fault_of_routed(routed, counts):
        raise wrong_answer("gating", gating, fault)
    return routed


def fault_of_routed(routed: Routed, counts: Ints) -> str:
    """What is wrong with the form of ``routed``, made of ``counts``; "" where nothing is."""
    if not isinstance(routed, Routed):
        return f"gives {type(routed).__name__}, not a Routed"
    passes = counts.shape[:2]
    shapes = {
        "rows": (*passes, counts.shape[3]),
        "kept": counts.shape,
        "sent": counts.shape,
        "dropped": passes,
        "capacity": passes,
    }
    for name, shape in shapes.items():
        column: NDArray[Any] = np.asarray(getattr(routed, name))
        if column.shape != shape:
            return f"gives {name} of shape {column.shape}, not {shape}"
        if not np.issubdtype(column.dtype, np.integer):
            return f"gives {name} that are {column.dtype}, not whole rows"
    return ""


def padded_to(capacity: Ints, counts: Ints) -> Routed:
    """Every sender gives every expert ``capacity`` int64[p, l] rows: ``counts`` int64[p, l, g, e]
    are clipped there, and padded.
    """
    each = capacity[:, :, None, None]
    kept = np.minimum(counts, each)
    rows = np.broadcast_to(
        (capacity * counts.shape[2])[:, :, None], (*counts.shape[:2], counts.shape[3])
    )
    sent = np.broadcast_to(each, counts.shape)
    return Routed(rows, kept, sent, (counts - kept).sum(axis=(2, 3)), capacity)


def fraction_capacity(share: float, tokens: Ints) -> Ints:
    """The exact ceiling of ``share`` of the fullest sender's ``tokens``, int64[p]."""
    return exact_ceiling(tokens.max(axis=1), Fraction(str(share)))


def exact_ceiling(values: Ints, share: Fraction) -> Ints:
    """``values`` int64[n] times ``share``, rounded up, without overflow: once for each that is
    different, as exact numbers are slow.
    """
    different, place = np.unique(values, return_inverse=True)
    products = np.array([ceil(value * share) for value in different.tolist()], np.int64)
    return np.asarray(products[place])


def largest_count(counts: Ints) -> Ints:
    """The most choices that any sender has of any expert, int64[p, l]."""
    most: Ints = counts.max(axis=(2, 3))
    return most
