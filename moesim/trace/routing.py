"""Recorded expert routing: which experts every token chose in every MoE layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.trace.domains import Domain
from moesim.trace.losses import Losses

if TYPE_CHECKING:
    from moesim.model import ModelSpec

NO_EXPERT = 65535
"""The id of an unused slot: a token may use fewer than ``top_k`` experts."""


class Phase(IntEnum):
    """The kind of forward pass in which a token was processed."""

    PREFILL = 0
    DECODE = 1
    ENCODE = 2


@dataclass(frozen=True)
class TraceMetadata:
    """Where a trace comes from and what its ids mean.

    ``experts`` are the routed experts of a layer (ids 0 .. experts - 1), ``top_k`` the slots of a
    token and layer, ``moe_layer_ids`` the model's layer index of each MoE layer of the trace.
    ``domains``: what requests are about, of those that say it. ``losses``: what transforms took
    from the recording, where some did.
    """

    model: str | None
    experts: int
    top_k: int
    moe_layer_ids: tuple[int, ...]
    recorder: str
    source: str
    licence: str
    notes: str = ""
    domains: tuple[Domain, ...] = ()
    losses: Losses | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.experts < NO_EXPERT:
            raise InputError(f"experts = {self.experts}: must be from 1 to {NO_EXPERT - 1}")
        if not 1 <= self.top_k <= self.experts:
            raise InputError(f"top_k = {self.top_k}: must be from 1 to experts = {self.experts}")
        ids = self.moe_layer_ids
        if not ids or ids[0] < 0 or any(b <= a for a, b in pairwise(ids)):
            raise InputError(f"moe_layer_ids = {list(ids)}: must rise from 0 or more, at least one")
        if self.losses is not None and len(self.losses.layers) != len(ids):
            told = counted(len(self.losses.layers), "MoE layer")
            raise InputError(f"losses are of {told}: must be of each of the {len(ids)} here")

    def of_layers(self, layers: Sequence[int]) -> TraceMetadata:
        """Those of a trace of some of the MoE ``layers``, by their place."""
        kept = tuple(self.moe_layer_ids[layer] for layer in layers)
        losses = self.losses and self.losses.of_layers(layers)
        return replace(self, moe_layer_ids=kept, losses=losses)


@dataclass(frozen=True, eq=False)
class RoutingTrace:
    """The routing of T tokens through L MoE layers with top-k experts.

    The rows of one request are contiguous and in the order in which they were processed. The
    position of a request's first decode token is its prompt length. Construction checks types and
    shapes only (InputError); ``moesim.trace.validate`` looks at the content.
    """

    expert_ids: NDArray[np.uint16]
    """[T, L, k], C-contiguous; NO_EXPERT where a slot is unused."""
    request_id: NDArray[np.int32]
    """[T]; any numbers, one a request."""
    position: NDArray[np.int32]
    """[T]; place in the request's sequence, in tokens from 0."""
    phase: NDArray[np.uint8]
    """[T]; values of ``Phase``."""
    gate_weights: NDArray[np.float16] | None
    """[T, L, k], the weight of each chosen expert, 0 .. 1."""
    predicted_ids: NDArray[np.uint16] | None
    """[T, L, k], experts that a recorded look-ahead predicted; or [T, D, L, k], at d those that it
    predicted over d + 1 MoE layers."""
    metadata: TraceMetadata

    def __post_init__(self) -> None:
        if self.expert_ids.ndim != 3 or not len(self.expert_ids):  # noqa: PLR2004
            raise InputError(
                f"expert_ids has shape {self.expert_ids.shape}: must be [tokens, moe_layers, top_k]"
                " with at least one token"
            )
        tokens = len(self.expert_ids)
        chosen = (tokens, len(self.metadata.moe_layer_ids), self.metadata.top_k)
        _require("expert_ids", self.expert_ids, np.uint16, chosen)
        _require("request_id", self.request_id, np.int32, (tokens,))
        _require("position", self.position, np.int32, (tokens,))
        _require("phase", self.phase, np.uint8, (tokens,))
        if self.gate_weights is not None:
            _require("gate_weights", self.gate_weights, np.float16, chosen)
        if self.predicted_ids is not None:
            distances = self.predicted_ids.shape[1:-2]
            several = len(distances) == 1 and distances[0] > 0
            shape = (tokens, *distances, *chosen[1:]) if several else chosen
            _require("predicted_ids", self.predicted_ids, np.uint16, shape)

    def __repr__(self) -> str:
        tokens, layers, top_k = self.expert_ids.shape
        about = f"{tokens} tokens, {layers} MoE layers, {top_k} of {self.metadata.experts} experts"
        return f"RoutingTrace({self.metadata.model}: {about})"

    @property
    def look_ahead(self) -> NDArray[np.uint16]:
        """``predicted_ids`` as [T, D, L, k]; there must be some."""
        assert self.predicted_ids is not None, "the trace has no predicted_ids"
        ids = self.predicted_ids
        return ids if ids.ndim > self.expert_ids.ndim else ids[:, None]

    @property
    def tokens(self) -> int:
        """T, the number of rows."""
        return len(self.expert_ids)

    @property
    def moe_layers(self) -> int:
        """L, the number of MoE layers."""
        return int(self.expert_ids.shape[1])

    @property
    def top_k(self) -> int:
        """k, the expert slots of a token in a layer."""
        return int(self.expert_ids.shape[2])

    @property
    def experts(self) -> int:
        """The routed experts of a layer."""
        return self.metadata.experts

    @property
    def requests(self) -> int:
        """The number of requests."""
        return len(self.request_offsets()) - 1

    def request_offsets(self) -> NDArray[np.int64]:
        """int64[requests + 1]: request i has the rows offsets[i] to offsets[i + 1] - 1."""
        return self._offsets

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        starts = np.flatnonzero(np.diff(self.request_id)) + 1
        return np.concatenate(([0], starts, [self.tokens])).astype(np.int64)

    @cached_property
    def largest_ids(self) -> NDArray[np.int64]:
        """int64[L]: the largest expert id of each layer, -1 where no token uses an expert."""
        largest = np.full(self.moe_layers, -1, dtype=np.int64)
        for start in range(0, self.tokens, 1 << 16):
            # NO_EXPERT + 1 wraps around to 0, so that unused slots never are the largest
            shifted = self.expert_ids[start : start + (1 << 16)] + np.uint16(1)
            np.maximum(largest, shifted.max(axis=(0, 2)).astype(np.int64) - 1, out=largest)
        return largest

    @cached_property
    def varies(self) -> NDArray[np.bool_]:
        """bool[L]: in which layers some of the tokens that run them take fewer experts than
        ``top_k``.
        """
        found = np.zeros(self.moe_layers, np.bool_)
        for start in range(0, self.tokens, 1 << 16):
            ids = self.expert_ids[start : start + (1 << 16)]
            if (ids == NO_EXPERT).any():
                chosen = (ids != NO_EXPERT).sum(axis=2)
                found |= ((chosen > 0) & (chosen < self.top_k)).any(axis=0)
        return found

    def check_fits(self, model: ModelSpec) -> None:
        """Raise an InputError if ``model`` cannot have produced this trace.

        It must have the trace's number of MoE layers, at least its top_k, and all of its ids.
        """
        if (what := self.misfit(model)) is not None:
            recorded = f"the trace (recorded from {self.metadata.model or 'an unnamed model'})"
            raise InputError([Problem("", "trace", f"{recorded} {what}; {_REMEDY}")])

    def misfit(self, model: ModelSpec) -> str | None:
        """What it has that ``model`` cannot have produced; None for nothing."""
        layers = model.moe_layers
        if len(layers) != self.moe_layers:
            own = counted(self.moe_layers, "MoE layer")
            return f"has {own}, but model '{model.name}' has {len(layers)}"
        for row, (layer, largest) in enumerate(zip(layers, self.largest_ids, strict=True)):
            moe = layer.moe
            if moe is None:
                continue
            if self.top_k > moe.top_k:
                own = counted(self.top_k, "expert")
                return f"has {own} a token, but model '{model.name}' routes to {moe.top_k}"
            if largest >= moe.experts:
                own = f"expert id {largest} in MoE layer {row}"
                its = f"model '{model.name}' has experts 0 to {moe.experts - 1} there"
                return f"has {own}, but {its}"
        return None


_REMEDY = (
    "use the model of the trace, or a trace of this model: 'moesim trace synthesize' draws one,"
    " and 'trace: auto' takes the shipped one or a stand-in"
)


def _require(
    name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype:
        raise InputError(f"{name} is {array.dtype}: must be {np.dtype(dtype).name}; convert it")
    if array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}: must be {shape}, as the metadata says")
    if not array.flags.c_contiguous:
        raise InputError(f"{name} is not C-contiguous: pass it through numpy.ascontiguousarray")
