"""moe-cache-lab's routing JSON lines: a metadata line, then a ``routing_selection`` line a token
and layer.

``{"type": "routing_selection", "phase": "prefill" | "decode", "token_position": 0, "layer": 0,
"selected_experts": [3, 1], "selected_probabilities": [0.6, 0.4], "token_id": 17}``; the
probabilities may be left out. Of the metadata line ``model`` and ``num_experts`` are taken where
they are. Written from that description; not verified against a recorded file.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.config.json_text import as_object, parse_json
from moesim.trace.assemble import MOST_TOKENS, describe, expert_ids, gate_weights
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

Line = dict[str, Any]
_PHASES = {"prefill": Phase.PREFILL, "decode": Phase.DECODE}


class MoeCacheLab(Importer):
    """moe-cache-lab routing JSON lines: prompts and answers, weights where they are recorded.

    A request ends where a token's position is not above the one before.
    """

    kind: Literal["moe-cache-lab"] = "moe-cache-lab"

    def recognises(self, recording: Recording) -> bool:
        """JSON lines with ``selected_experts`` near their beginning."""
        return recording.head[:1] == b"{" and b'"selected_experts"' in recording.head

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, requests in the order of the file."""
        if recording.prompt_tokens is not None or recording.request_tokens is not None:
            raise InputError(f"the file says where requests begin: leave {PROMPT}, {REQUEST} out")
        meta, selections = _parse(recording)
        tokens = _tokens(selections)
        layers = sorted(tokens[0])
        top_k = max(len(line["selected_experts"]) for _, line in selections)
        ids, weights = _arrays(tokens, layers, top_k)
        firsts = [next(iter(token.values()))[1] for token in tokens]
        position = np.array([line["token_position"] for line in firsts], np.int32)
        experts, model = meta.get("num_experts"), meta.get("model")
        return RoutingTrace(
            expert_ids=ids,
            request_id=np.cumsum(np.diff(position, prepend=position[0] - 1) <= 0).astype(np.int32),
            position=position,
            phase=np.array([_PHASES[line["phase"]] for line in firsts], np.uint8),
            gate_weights=weights,
            predicted_ids=None,
            metadata=describe(
                recording,
                ids,
                "moe-cache-lab routing",
                experts=experts if type(experts) is int else None,
                layers=tuple(layers),
                model=model if isinstance(model, str) else None,
            ),
        )


Selection = tuple[int, Line]
"""A line of the file, and its number."""


def _parse(recording: Recording) -> tuple[Line, list[Selection]]:
    """The metadata, and the selections in the order of the file."""
    meta: Line = {}
    selections = []
    path = str(recording.path)
    with recording.path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            line = as_object(parse_json(text, path, number, strict=False), f"{path}:{number}")
            if "selected_experts" in line:
                _check(line, number)
                selections.append((number, line))
            elif not selections:
                meta |= line
    if not selections:
        raise InputError("has no line with selected_experts: record again while requests run")
    return meta, selections


def _check(line: Line, number: int) -> None:
    for name, most in (("token_position", MOST_TOKENS), ("layer", 1 << 15)):
        if type(value := line.get(name)) is not int or not 0 <= value <= most:
            raise _at(number, f"{name} is {value!r:.40}: must be a whole number from 0 to {most}")
    if (phase := line.get("phase")) not in _PHASES:
        raise _at(number, f"phase is {phase!r:.40}: must be prefill or decode")
    chosen = line["selected_experts"]
    if (
        not isinstance(chosen, list)
        or not chosen
        or not all(type(one) is int and 0 <= one < NO_EXPERT for one in chosen)
    ):
        what = f"selected_experts is {chosen!r:.60}: must be a list of ids from 0"
        raise _at(number, what)
    shares = line.get("selected_probabilities")
    if shares is None:
        return
    right = isinstance(shares, list) and len(shares) == len(chosen)
    if not (right and all(type(one) in {int, float} and 0 <= one <= 1 for one in shares)):
        what = f"selected_probabilities is {shares!r:.60}: must be {len(chosen)} numbers from 0"
        raise _at(number, f"{what} to 1")


def _tokens(selections: list[Selection]) -> list[dict[int, Selection]]:
    """The selections of each token by layer; a new token begins where the position changes, or
    where a layer comes again.
    """
    tokens: list[dict[int, Selection]] = []
    before = None
    for number, line in selections:
        place = (line["phase"], line["token_position"])
        if place != before or line["layer"] in tokens[-1]:
            tokens.append({})
        before = place
        tokens[-1][line["layer"]] = (number, line)
    return tokens


def _arrays(tokens: list[dict[int, Selection]], layers: list[int], top_k: int) -> tuple[Any, Any]:
    ids = np.full((len(tokens), len(layers), top_k), -1, dtype=np.int64)
    weights = np.zeros(ids.shape, dtype=np.float32)
    weighted = True
    for row, token in enumerate(tokens):
        if sorted(token) != layers:
            number = next(iter(token.values()))[0]
            what = f"this token has layers {sorted(token)}, the first one {layers}"
            raise _at(number, f"{what}: every token must have all; is the file cut off?")
        for column, layer in enumerate(layers):
            line = token[layer][1]
            chosen, shares = line["selected_experts"], line.get("selected_probabilities")
            ids[row, column, : len(chosen)] = chosen
            weighted = weighted and shares is not None
            weights[row, column, : len(chosen)] = shares or 0
    kept = gate_weights("selected_probabilities", weights, ids.shape) if weighted else None
    return expert_ids("selected_experts", ids), kept


def _at(number: int, what: str) -> InputError:
    return InputError([Problem("", f"line {number}", what)])
