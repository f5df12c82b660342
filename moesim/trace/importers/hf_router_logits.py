"""Router logits of Hugging Face transformers (``output_router_logits=True``), saved as npz.

``out.router_logits`` is a tuple over the MoE layers of [batch * tokens, experts], before softmax
(Mixtral, OLMoE, Qwen2/3-MoE, gpt-oss). Softmax keeps the order, so top-k of the logits are the
experts whatever the model's order of softmax and top-k; that order only decides whether the
weights of a token add up to 1.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.trace.assemble import (
    counts,
    describe,
    phases,
    request_columns,
    request_rows,
    wrong,
)
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, prompts_of
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, RoutingTrace

_LAYER = re.compile(r"layer_(\d+)")
_SHARE_OF_ALL = ("olmoe", "qwen2_moe")
"""Families whose weights are softmax over all experts (norm_topk_prob false in their configs)."""


class HfRouterLogits(Importer):
    """Hugging Face router logits as npz: router_logits [L, T, E], or layer_0, layer_1, ... [T, E].

    Optional keys: ``top_k`` (else --top-k or the model's), ``norm_topk_prob`` (else the model
    family's, else true), ``offsets`` [R + 1] and ``prompt_lengths`` [R]. Models whose routers do
    more than softmax and top-k (DeepSeek's groups and biases) are refused: record the ids with a
    hook and save them as ``expert_ids``.
    """

    kind: Literal["hf-router-logits"] = "hf-router-logits"

    def recognises(self, recording: Recording) -> bool:
        """An npz file with router_logits or layer_0."""
        return bool({"router_logits", "layer_0"} & recording.names)

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace: the experts of the k largest logits, the largest first."""
        family = recording.model.family if recording.model else ""
        if family.startswith("deepseek"):
            raise InputError(
                f"{family} routes by groups and biases, which logits do not show: record the"
                " output of mlp.gate with a hook and save it as npz with expert_ids"
            )
        arrays = recording.arrays
        logits = _logits(arrays)
        normalise = _normalises(arrays, family)
        top_k = _top_k(arrays, recording, logits.shape[2])
        ids, weights = choose(logits, top_k, normalise=normalise)
        rows = request_rows(arrays, recording, len(ids))
        first = np.zeros(len(rows) - 1, dtype=np.int64)
        request, position = request_columns(rows, first)
        prompt, name = recording.prompt_tokens, PROMPT
        if "prompt_lengths" in arrays:
            if prompt is not None:
                raise wrong("prompt_lengths", f"says how long prompts are: leave {PROMPT} out")
            name = "prompt_lengths"
            prompt = counts(name, arrays[name], len(rows) - 1).tolist()
        notes = "prompt length not recorded: all tokens as decode" if prompt is None else ""
        recorder = "transformers router_logits"
        return RoutingTrace(
            expert_ids=ids,
            request_id=request,
            position=position,
            phase=phases(position, prompts_of(prompt, rows, first, name)),
            gate_weights=weights,
            predicted_ids=None,
            metadata=describe(recording, ids, recorder, experts=logits.shape[2], notes=notes),
        )


def choose(
    logits: NDArray[Any], top_k: int, *, normalise: bool
) -> tuple[NDArray[np.uint16], NDArray[np.float16]]:
    """Ids uint16[T, L, k] and weights float16[T, L, k] of the ``top_k`` largest of [T, L, E].

    Weights are softmax over all experts, divided by their sum over the chosen if ``normalise``
    (which equals softmax over the chosen). Equal logits: the lowest id first.
    """
    ids = np.argsort(-logits, axis=2, kind="stable")[:, :, :top_k]
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    chosen = np.take_along_axis(shares, ids, axis=2)
    chosen /= (chosen if normalise else shares).sum(axis=2, keepdims=True)
    return np.ascontiguousarray(ids.astype(np.uint16)), np.ascontiguousarray(
        chosen.astype(np.float16)
    )


def _logits(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """[T, L, E] float32, whichever way they are stored."""
    if "router_logits" in arrays:
        name, stacked = "router_logits", arrays["router_logits"]
    else:
        found = sorted((int(m[1]), k) for k in arrays if (m := _LAYER.fullmatch(k)))
        layers = [arrays[key] for _, key in found]
        name = "layer_0"
        if len({layer.shape for layer in layers}) > 1:
            shapes = sorted({layer.shape for layer in layers})
            raise wrong(name, f"and the other layers have shapes {shapes}: must be equal")
        stacked = np.stack(layers)
    if stacked.ndim != 3 or 0 in stacked.shape or stacked.dtype.kind != "f":  # noqa: PLR2004
        rule = "must be floating point [moe_layers, tokens, experts] (layer_i: [tokens, experts])"
        raise wrong(name, f"is {stacked.dtype}{list(stacked.shape)}: {rule}")
    with np.errstate(over="ignore"):
        stacked = stacked.astype(np.float32)
    if not np.isfinite(stacked).all():
        layer, token, _ = (int(i[0]) for i in np.nonzero(~np.isfinite(stacked)))
        raise wrong(name, f"is not finite in layer {layer}, token {token}: must be numbers")
    if stacked.shape[2] >= NO_EXPERT:
        raise wrong(name, f"has {stacked.shape[2]} experts: must be below {NO_EXPERT}")
    return np.ascontiguousarray(np.moveaxis(stacked, 0, 1), dtype=np.float32)


def _top_k(arrays: dict[str, NDArray[Any]], recording: Recording, experts: int) -> int:
    moe = (
        recording.model.moe_layers[0].moe
        if recording.model and recording.model.moe_layers
        else None
    )
    value: Any = arrays.get("top_k", recording.top_k or (moe.top_k if moe else None))
    if value is None:
        raise InputError("logits do not say how many experts a token uses: add --top-k or --model")
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iu" or not 1 <= value <= experts:
        raise wrong("top_k", f"is {value}: must be from 1 to the {experts} experts")
    return int(value)


def _normalises(arrays: dict[str, NDArray[Any]], family: str) -> bool:
    """Whether weights are shares of the chosen experts alone."""
    said = np.asarray(arrays.get("norm_topk_prob", family not in _SHARE_OF_ALL))
    if said.ndim or said.dtype.kind not in "biu":
        raise wrong("norm_topk_prob", f"is {said.dtype}{list(said.shape)}: must be true or false")
    return bool(said)
