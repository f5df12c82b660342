"""The community's JSON lines of vLLM routing (``VLLM_LOG_MOE``): a meta line, then route lines.

Line 1: {"type": "meta", "model_id", "layers_logged", "top_k", optional "num_experts", ...}; then
{"type": "route", "req_id", "token_idx", "layer", "topk_ids", "topk_weights"}. ``token_idx`` is the
row of the forward batch and restarts with each forward. Written from that description; not verified
against a recorded file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.config.json_text import as_object, parse_json
from moesim.trace.assemble import describe, expert_ids, gate_weights
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

Values = dict[str, Any]
LARGEST = 1 << 31


@dataclass
class _Token:
    forward: int
    layers: dict[int, Values] = field(default_factory=dict)


class VllmJsonl(Importer):
    """vLLM routing log as JSON lines: a meta line, then a route line a token and layer.

    A request's first forward and every later one with several of its rows is prefill, the rest is
    decode (the log does not say it). Rows without a request (``req_id`` null, empty or beginning
    with "profile") are vLLM's own profile runs and are dropped.
    """

    kind: Literal["vllm-jsonl"] = "vllm-jsonl"

    def recognises(self, recording: Recording) -> bool:
        """A text file whose first line is an object of type meta."""
        line = recording.head.split(b"\n", 1)[0]
        return line.startswith(b"{") and b'"type"' in line and b'"meta"' in line

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, requests in the order in which they first appear."""
        if recording.prompt_tokens is not None or recording.request_tokens is not None:
            raise InputError(f"the log says where requests begin: leave {PROMPT}, {REQUEST} out")
        lines = _lines(recording.path)
        _, meta = next(lines, (1, {}))
        requests = _tokens(lines)
        if not requests:
            raise InputError("has no route line of a request: record again while requests run")
        layers = tuple(sorted(next(iter(requests.values()))[0].layers))
        top_k = meta.get("top_k")
        if type(top_k) is not int or not 0 < top_k < NO_EXPERT:
            what = f"is {top_k!r:.40} in the meta line: must be from 1 to {NO_EXPERT - 1}"
            raise InputError([Problem("", "top_k", what)])
        experts = meta.get("num_experts")
        ids, weights = _arrays(requests, layers, top_k)
        return RoutingTrace(
            expert_ids=ids,
            request_id=np.repeat(np.arange(len(requests)), _lengths(requests)).astype(np.int32),
            position=np.concatenate([np.arange(n) for n in _lengths(requests)]).astype(np.int32),
            phase=np.concatenate([_phases(tokens) for tokens in requests.values()]),
            gate_weights=weights,
            predicted_ids=None,
            metadata=describe(
                recording,
                ids,
                f"vllm {meta.get('vllm_version', '')} routing log".replace("  ", " "),
                experts=experts if type(experts) is int else None,
                layers=layers,
                model=str(meta["model_id"]) if meta.get("model_id") else None,
            ),
        )


def _lines(path: Path) -> Iterator[tuple[int, Values]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            values = parse_json(line, str(path), number, strict=False)
            yield number, as_object(values, f"{path}:{number}")


def _tokens(lines: Iterator[tuple[int, Values]]) -> dict[str, list[_Token]]:
    """Each request's tokens in order.

    A new forward has begun where neither the layer nor the row of the batch rises: true of lines
    layer by layer (as hooks write them) and of lines token by token.
    """
    requests: dict[str, list[_Token]] = {}
    current: dict[tuple[str, int], _Token] = {}
    forward, before = 0, (-1, -1)
    for number, line in lines:
        if line.get("type") != "route":
            continue
        row, layer = _integer(line, "token_idx", number), _integer(line, "layer", number)
        if layer <= before[0] and row <= before[1]:
            forward, current = forward + 1, {}
        before = (layer, row)
        request = line.get("req_id")
        if request in (None, "") or str(request).startswith("profile"):
            continue
        key = (str(request), row)
        if key not in current:
            current[key] = _Token(forward)
            requests.setdefault(key[0], []).append(current[key])
        current[key].layers[layer] = {**line, "number": number}
    return requests


def _arrays(
    requests: dict[str, list[_Token]], layers: tuple[int, ...], top_k: int
) -> tuple[Any, Any]:
    tokens = [token for request in requests.values() for token in request]
    lines = [token.layers for token in tokens]
    ids = np.full((len(lines), len(layers), top_k), -1, dtype=np.int64)
    weights = np.zeros(ids.shape, dtype=np.float32)
    weighted = all("topk_weights" in line for line in lines[0].values())
    for row, found in enumerate(lines):
        if tuple(sorted(found)) != layers:
            number = next(iter(found.values()))["number"]
            what = f"this token has layers {sorted(found)}, the first one {list(layers)}"
            raise InputError(
                [_at(number, f"{what}: every token must have all; is the log cut off?")]
            )
        for column, layer in enumerate(layers):
            _fill(found[layer], "topk_ids", ids[row, column])
            if weighted:
                _fill(found[layer], "topk_weights", weights[row, column])
    kept = gate_weights("topk_weights", weights, ids.shape) if weighted else None
    return expert_ids("topk_ids", ids), kept


def _fill(line: Values, name: str, target: Any) -> None:
    values = line.get(name)
    kinds = (int,) if name == "topk_ids" else (int, float)
    if not isinstance(values, list) or not all(type(value) in kinds for value in values):
        raise InputError(
            [_at(line["number"], f"{name} is {values!r:.60}: must be a list of numbers")]
        )
    if len(values) > len(target):
        what = f"{name} has {len(values)} values: the meta line says top_k = {len(target)}"
        raise InputError([_at(line["number"], what)])
    if beyond := [value for value in values if not abs(value) <= LARGEST]:
        what = f"{name} holds {beyond[0]!r:.40}: no expert or weight is as large"
        raise InputError([_at(line["number"], what)])
    target[: len(values)] = values


def _phases(tokens: list[_Token]) -> Any:
    forwards, counts = np.unique([token.forward for token in tokens], return_counts=True)
    last_prefill = max([forwards[0], *forwards[counts > 1]])
    prefill = [token.forward <= last_prefill for token in tokens]
    return np.where(prefill, Phase.PREFILL, Phase.DECODE).astype(np.uint8)


def _lengths(requests: dict[str, list[_Token]]) -> list[int]:
    return [len(tokens) for tokens in requests.values()]


def _integer(line: Values, name: str, number: int) -> int:
    value = line.get(name)
    if type(value) is not int or value < 0:
        raise InputError([_at(number, f"{name} is {value!r}: must be a whole number from 0")])
    return value


def _at(number: int, what: str) -> Problem:
    return Problem("", f"line {number}", what)
