"""llama-moe-trace's CSV (``MOE_TRACE_OUT``): choices of a llama.cpp that writes them down.

A header names the columns, by one of the names in ``_COLUMNS``: a token, a layer, and the experts,
one a row (with its ``slot`` or in the order of rows) or all of a layer in one row, as numbered
columns (``expert_0``, ``expert_1``) or as a list in one (``3 1 5``, ``3;1;5``, ``[3, 1, 5]``); gate
weights alike. A request, a pass (``batch``) and a phase are read where there are such columns.
Other columns are passed over, and the notes name them. Only the format's name is known to the
author: names are read liberally, and nothing was checked against a recorded file.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.trace.assemble import (
    MOST_TOKENS,
    describe,
    expert_ids,
    gate_weights,
    phases,
    request_columns,
    weight,
)
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST, prompts_of
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

_COLUMNS = {
    "token": "token tok token_idx token_index token_pos pos position step t n_past",
    "layer": "layer il layer_id layer_idx layer_index block",
    "expert": "expert experts expert_id expert_ids e id ids topk_ids selected selected_experts",
    "weight": "weight weights w prob probs probability gate gate_weight score scores topk_weights",
    "slot": "slot rank k choice topk_idx",
    "phase": "phase stage",
    "request": "request request_id req seq seq_id sequence turn prompt prompt_id session",
    "pass": "pass batch batch_id ubatch forward call eval graph",
}
_MEANT = {name: meaning for meaning, names in _COLUMNS.items() for name in names.split()}
_NUMBERED = re.compile(r"([a-z_]*?)_?(\d{1,3})")
_PHASES = {
    **dict.fromkeys(("0", "prefill", "prompt", "pp"), Phase.PREFILL),
    **dict.fromkeys(("1", "decode", "decoding", "generate", "generation", "tg"), Phase.DECODE),
}
_NEEDED = ("token", "layer", "expert")
_APART = re.compile(r"[\s;|,\[\]]+")


class LlamaMoeTrace(Importer):
    """llama-moe-trace CSV (MOE_TRACE_OUT) by the names of its columns.

    Without a column of passes a pass begins where neither the layer nor the token rises. A pass of
    several tokens is a prompt where there are several passes and no column of phases; else
    --prompt-tokens says where prompts end.
    """

    kind: Literal["llama-moe-trace"] = "llama-moe-trace"

    def recognises(self, recording: Recording) -> bool:
        """Text whose first line has names of a token, a layer and experts."""
        line = recording.head.split(b"\n", 1)[0].decode("utf-8", errors="replace")
        return set(_NEEDED) <= {meaning for meaning, _ in _meanings(line.split(","))}

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, requests in the order in which they first appear."""
        if recording.request_tokens is not None:
            raise InputError(f"a column says where requests begin: leave {REQUEST} out")
        columns, rows = _parse(recording)
        requests = _requests(rows)
        tokens = [token for request in requests for token in request]
        layers = tuple(sorted({layer for token in tokens for layer in token.layers}))
        ids, weights = _arrays(tokens, layers)
        _check_whole(requests, ids)
        starts = np.cumsum([0, *map(len, requests)])
        request, position = request_columns(starts, 0 * starts[:-1])
        phase, notes = _phases(tokens, recording, starts, position)
        if columns.passed_over:
            notes = [*notes, f"columns passed over: {', '.join(columns.passed_over)}"]
        return RoutingTrace(
            expert_ids=ids,
            request_id=request,
            position=position,
            phase=phase,
            gate_weights=weights,
            predicted_ids=None,
            metadata=describe(
                recording, ids, "llama-moe-trace", layers=layers, notes="; ".join(notes)
            ),
        )


class _Columns(NamedTuple):
    at: dict[str, list[int]]
    passed_over: tuple[str, ...]


class _Row(NamedTuple):
    line: int
    request: str
    forward: tuple[str, int]
    token: int
    layer: int
    slot: int | None
    phase: Phase | None
    experts: list[int]
    weights: list[float] | None


@dataclass
class _Token:
    line: int
    forward: tuple[str, int]
    phase: Phase | None
    layers: dict[int, dict[int, tuple[int, float | None]]] = field(default_factory=dict)


def _meanings(names: list[str]) -> Iterator[tuple[str, int]]:
    """What each of the ``names`` means, and where it stands, numbered ones in their order."""
    found = []
    for at, written in enumerate(names):
        name = written.strip().strip('"').lower()
        numbered = _NUMBERED.fullmatch(name)
        if name in _MEANT:
            found.append((_MEANT[name], -1, at))
        elif numbered and _MEANT.get(numbered[1]) in {"expert", "weight"}:
            found.append((_MEANT[numbered[1]], int(numbered[2]), at))
    for meaning, _, at in sorted(found):
        yield meaning, at


def _parse(recording: Recording) -> tuple[_Columns, list[_Row]]:
    with recording.path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(file)
        columns = _columns(next(lines, []))
        rows: list[_Row] = []
        forward, before = 0, (-1, -1)
        for fields in lines:
            if fields and not fields[0].startswith("#"):
                row = _row(columns, fields, lines.line_num)
                here = row.layer, row.token
                if here != before and row.layer <= before[0] and row.token <= before[1]:
                    forward += 1
                before = here
                rows.append(row._replace(forward=(row.forward[0], forward)))
    if not rows:
        raise InputError("has no row of a token: record again, or copy the file again")
    return columns, rows


def _columns(names: list[str]) -> _Columns:
    at: dict[str, list[int]] = {}
    for meaning, place in _meanings(names):
        at.setdefault(meaning, []).append(place)
    if missing := [name for name in _NEEDED if name not in at]:
        have = ", ".join(names)[:120]
        what = f"has no column for the {missing[0]} among '{have}'"
        raise _at(1, f"{what}: name it one of {', '.join(_COLUMNS[missing[0]].split())}")
    for name in set(at) - {"expert", "weight"}:
        if len(at[name]) > 1:
            twice = " and ".join(f"'{names[place].strip()}'" for place in at[name])
            raise _at(1, f"{twice} both name the {name}: rename one of them")
    known = {place for places in at.values() for place in places}
    return _Columns(at, tuple(name.strip() for i, name in enumerate(names) if i not in known))


def _row(columns: _Columns, fields: list[str], line: int) -> _Row:
    def one(name: str) -> str | None:
        place = columns.at.get(name, [len(fields)])[0]
        return fields[place].strip() if place < len(fields) else None

    def whole(name: str, most: int) -> int:
        return _whole(name, one(name) or "", most, line)

    experts = [
        _whole("expert", word, NO_EXPERT - 1, line) for word in _words(columns, "expert", fields)
    ]
    weights = [weight(word, line) for word in _words(columns, "weight", fields)]
    if not experts or ("weight" in columns.at and len(weights) != len(experts)):
        what = f"has {len(experts)} experts and {len(weights)} weights: must have one each"
        raise _at(line, f"{what}; is the file cut off?")
    phase = one("phase")
    if phase is not None and phase.lower() not in _PHASES:
        raise _at(line, f"phase is '{phase:.40}': must be one of {', '.join(_PHASES)}")
    return _Row(
        line,
        one("request") or "",
        (one("pass") or "", 0),
        whole("token", MOST_TOKENS),
        whole("layer", 1 << 15),
        whole("slot", 1 << 10) if "slot" in columns.at else None,
        None if phase is None else _PHASES[phase.lower()],
        experts,
        weights or None,
    )


def _words(columns: _Columns, name: str, fields: list[str]) -> list[str]:
    """The values in the columns of ``name``; -1 is an unused slot."""
    found = [fields[place] for place in columns.at.get(name, []) if place < len(fields)]
    words = [word for text in found for word in _APART.split(text) if word]
    return [word for word in words if word != "-1"]


def _whole(name: str, text: str, most: int, line: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= most):  # noqa: PLR2004
        raise _at(line, f"{name} is '{text:.40}': must be a whole number from 0 to {most}")
    return int(text)


def _requests(rows: list[_Row]) -> list[list[_Token]]:
    """The tokens of each request, in the order of the file."""
    requests: dict[str, dict[tuple[tuple[str, int], int], _Token]] = {}
    for row in rows:
        tokens = requests.setdefault(row.request, {})
        key = row.forward, row.token
        token = tokens.setdefault(key, _Token(row.line, row.forward, row.phase))
        if token.phase != row.phase:
            raise _at(row.line, f"token {row.token} is in both phases: must be in one")
        slots = token.layers.setdefault(row.layer, {})
        first = len(slots) if row.slot is None else row.slot
        for number, expert in enumerate(row.experts):
            gate = row.weights[number] if row.weights else None
            if first + number in slots or expert in {one for one, _ in slots.values()}:
                what = f"token {row.token} has expert {expert} or its slot twice in layer"
                raise _at(row.line, f"{what} {row.layer}")
            slots[first + number] = expert, gate
    return [list(tokens.values()) for tokens in requests.values()]


def _arrays(tokens: list[_Token], layers: tuple[int, ...]) -> tuple[Any, Any]:
    top_k = 1 + max(slot for token in tokens for slots in token.layers.values() for slot in slots)
    ids = np.full((len(tokens), len(layers), top_k), -1, np.int64)
    weights = np.zeros(ids.shape, np.float32)
    weighted = True
    column = {layer: place for place, layer in enumerate(layers)}
    for number, token in enumerate(tokens):
        for layer, slots in token.layers.items():
            for slot, (expert, gate) in slots.items():
                ids[number, column[layer], slot] = expert
                weights[number, column[layer], slot] = gate or 0
                weighted = weighted and gate is not None
    kept = gate_weights("weight", weights, ids.shape) if weighted else None
    return expert_ids("expert", ids), kept


def _check_whole(requests: list[list[_Token]], ids: NDArray[np.uint16]) -> None:
    """A layer has all choices of a token or none (llama.cpp runs the last layer of the last prompt
    token alone); a decoded token and each request's last have all.
    """
    tokens = [token for request in requests for token in request]
    used = (ids != NO_EXPERT).sum(axis=2)
    whole = np.array([token.phase == Phase.DECODE for token in tokens])
    whole[np.cumsum([len(request) for request in requests]) - 1] = True
    bad = (used != ids.shape[2]) & ((used > 0) | whole[:, None])
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        has = f"has {sorted(set(used[row].tolist()))} choices in its layers"
        raise _at(
            tokens[row].line, f"this token {has}: must be {ids.shape[2]}; is the file cut off?"
        )


def _phases(
    tokens: list[_Token],
    recording: Recording,
    starts: NDArray[np.int64],
    position: NDArray[np.int32],
) -> tuple[NDArray[np.uint8], list[str]]:
    """The phase of each token, and what is not known of it."""
    said = [token.phase for token in tokens]
    if None not in said:
        if recording.prompt_tokens is not None:
            raise InputError(f"the file says where prompts end: leave {PROMPT} out")
        return np.array(said, np.uint8), []
    if recording.prompt_tokens is not None:
        first = 0 * starts[:-1]
        return phases(position, prompts_of(recording.prompt_tokens, starts, first)), []
    sizes = Counter(token.forward for token in tokens)
    if len(sizes) == 1:
        note = "prompt length not recorded: all tokens as decode"
        return phases(position, None), [note]
    prompt = [sizes[token.forward] > 1 for token in tokens]
    found = np.where(prompt, Phase.PREFILL, Phase.DECODE).astype(np.uint8)
    return found, ["passes of several tokens are taken as prompts"]


def _at(line: int, what: str) -> InputError:
    return InputError([Problem("", f"line {line}", what)])
