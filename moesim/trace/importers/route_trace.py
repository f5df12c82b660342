"""The ``# route_trace v1`` CSV of BigMoeOnEdge, a llama.cpp engine that streams experts.

Comment lines, then a header line and a row a token, layer and choice::

    # route_trace v1
    # model=/path/to/model.gguf arch=qwen3moe n_layer=48 n_expert=128 n_expert_used=6
    # layer=0 expert_bytes=3059712 dense_bytes=11953152
    turn,phase,step,layer,slot,expert,weight,residency,expert_bytes

``phase`` 0 is the prompt, 1 decoding; ``step`` the token's place in its turn; ``slot`` the rank of
the choice; ``residency`` 1 where the engine's cache had the expert (0 in all of the prompt);
``expert_bytes`` what was read for it, 0 where nothing was. Verified against the engine's three
published files (Helldez/BigMoeOnEdge, Apache-2.0), which have one turn each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.trace.assemble import MOST_TOKENS, describe, weight
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST
from moesim.trace.recording import Recording
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

MAGIC = b"# route_trace v1"
COLUMNS = "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes"
_MOST = {"phase": 1, "layer": 1 << 15, "slot": 1 << 10, "residency": 1, "expert_bytes": 1 << 50}
_DIGITS = 16
_WEIGHT = COLUMNS.split(",").index("weight")


class RouteTrace(Importer):
    """route_trace v1 CSV (BigMoeOnEdge): a request a turn, both phases, gate weights.

    Of a layer that a prompt token did not run (llama.cpp computes the last layer of the last prompt
    token alone) it uses no expert. The engine's hits are counted in the notes: an access is an
    expert that a pass needs in a layer, the prompt being one pass.
    """

    kind: Literal["route-trace"] = "route-trace"

    def recognises(self, recording: Recording) -> bool:
        """A text file that says so in its first line."""
        return recording.head.startswith(MAGIC)

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace, a request a turn."""
        if recording.prompt_tokens is not None or recording.request_tokens is not None:
            raise InputError(f"the file says where prompts end: leave {PROMPT}, {REQUEST} out")
        head, rows = _parse(recording)
        tokens = _tokens(rows)
        layers, column = np.unique(rows.layer, return_inverse=True)
        top_k = int(head.get("n_expert_used", rows.slot.max() + 1))
        ids = np.full((len(tokens.first), len(layers), top_k), NO_EXPERT, dtype=np.uint16)
        weights = np.zeros(ids.shape, dtype=np.float16)
        place = tokens.of_row, column, rows.slot
        _check_choices(head, rows, place, ids.shape)
        ids[place], weights[place] = rows.expert, rows.weight
        trace = RoutingTrace(
            expert_ids=ids,
            request_id=rows.turn[tokens.first].astype(np.int32),
            position=rows.step[tokens.first].astype(np.int32),
            phase=rows.phase[tokens.first].astype(np.uint8),
            gate_weights=weights,
            predicted_ids=None,
            metadata=describe(
                recording,
                ids,
                f"BigMoeOnEdge route_trace v1 ({head.get('arch', 'architecture not named')})",
                experts=int(head["n_expert"]) if "n_expert" in head else None,
                layers=tuple(int(layer) for layer in layers),
                model=PurePosixPath(head["model"]).name if "model" in head else None,
                notes="; ".join(_notes(recording, rows, top_k)),
            ),
        )
        _check_whole(trace, rows)
        return trace


class Rows(NamedTuple):
    """The rows of the file, a column each, and their line numbers."""

    turn: NDArray[np.int64]
    phase: NDArray[np.int64]
    step: NDArray[np.int64]
    layer: NDArray[np.int64]
    slot: NDArray[np.int64]
    expert: NDArray[np.int64]
    weight: NDArray[np.float64]
    hit: NDArray[np.int64]
    bytes_read: NDArray[np.int64]
    line: NDArray[np.int64]


class _Tokens(NamedTuple):
    first: NDArray[np.int64]  # [T] a row of each token, in the order of turns and steps
    of_row: NDArray[np.int64]  # [rows] the token of each row


def accesses(rows: Rows) -> tuple[int, int]:
    """The accesses of the engine's cache and its hits among them."""
    decoded = rows.phase == Phase.DECODE
    prompts = np.stack([rows.turn, rows.layer, rows.expert])[:, ~decoded]
    return len(np.unique(prompts, axis=1).T) + int(decoded.sum()), int(rows.hit[decoded].sum())


def _notes(recording: Recording, rows: Rows, top_k: int) -> Iterator[str]:
    moe = [layer.moe for layer in recording.model.moe_layers] if recording.model else []
    most = max((one.top_k for one in moe if one), default=top_k)
    if most > top_k:
        yield f"recorded with top-{top_k}: the model's own is top-{most}"
    if turns := len(np.unique(rows.turn)):
        yield "one prompt" if turns == 1 else f"{turns} turns"
    of_all, hits = accesses(rows)
    yield f"the engine's cache had {hits} of {of_all} accesses ({100 * hits / of_all:.1f} %)"


def _parse(recording: Recording) -> tuple[dict[str, str], Rows]:
    """What the comments say, and the rows."""
    head: dict[str, str] = {}
    rows: list[list[float]] = []
    with recording.path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if text.startswith("# model="):
                head |= _said(text, number)
            elif text and not text.startswith("#") and text != COLUMNS:
                rows.append([*_values(text, number), number])
    if not rows:
        raise InputError("has no row of a token: record again, or copy the file again")
    return head, Rows(*(_column(values, at) for at, values in enumerate(zip(*rows, strict=True))))


def _said(text: str, number: int) -> dict[str, str]:
    said = dict(re.findall(r"(\w+)=(\S+)", text))
    for name in {"n_expert", "n_expert_used"} & set(said):
        digits = said[name].isascii() and said[name].isdecimal() and len(said[name]) <= _DIGITS
        if not (digits and 0 < int(said[name]) < NO_EXPERT):
            raise _at(number, f"{name} is '{said[name]:.40}': must be from 1 to {NO_EXPERT - 1}")
    return said


def _values(text: str, number: int) -> Iterator[float]:
    fields = text.split(",")
    names = COLUMNS.split(",")
    if len(fields) != len(names):
        what = f"has {len(fields)} fields: must have the {len(names)} of '{COLUMNS}'"
        raise _at(number, f"{what}; is the file cut off?")
    for name, field in zip(names, fields, strict=True):
        if name == "weight":
            yield weight(field, number)
        else:
            most = _MOST.get(name, NO_EXPERT - 1 if name == "expert" else MOST_TOKENS)
            digits = field.isascii() and field.isdecimal() and len(field) <= _DIGITS
            if not (digits and int(field) <= most):
                what = f"{name} is '{field:.40}': must be a whole number from 0 to {most}"
                raise _at(number, what)
            yield int(field)


def _column(values: tuple[float, ...], at: int) -> NDArray[Any]:
    return np.array(values, dtype=np.float64 if at == _WEIGHT else np.int64)


def _tokens(rows: Rows) -> _Tokens:
    _, first, of_row = np.unique(
        np.stack([rows.turn, rows.step]), axis=1, return_index=True, return_inverse=True
    )
    of_row = of_row.reshape(-1)
    other = rows.phase != rows.phase[first][of_row]
    if other.any():
        row = int(np.argmax(other))
        raise _at(int(rows.line[row]), f"step {rows.step[row]} is in both phases: must be in one")
    return _Tokens(first, of_row)


def _check_choices(
    head: dict[str, str],
    rows: Rows,
    place: tuple[NDArray[np.int64], ...],
    shape: tuple[int, ...],
) -> None:
    for name, values, end in (
        ("slot", rows.slot, shape[2]),
        ("expert", rows.expert, int(head.get("n_expert", NO_EXPERT))),
    ):
        if (wrong := values >= end).any():
            row = int(np.argmax(wrong))
            what = f"{name} is {values[row]}: the '# model=' line says at most {end - 1}"
            raise _at(int(rows.line[row]), what)
    flat = np.ravel_multi_index(place, shape)
    _, first = np.unique(flat, return_index=True)
    if len(first) < len(flat):
        row = int(np.setdiff1d(np.arange(len(flat)), first)[0])
        raise _at(int(rows.line[row]), "this turn, step, layer and slot stand twice")


def _check_whole(trace: RoutingTrace, rows: Rows) -> None:
    """Every decoded token and each prompt's last has all choices of all layers; the others have
    all or none of a layer.
    """
    used = (trace.expert_ids != NO_EXPERT).sum(axis=2)
    last = np.append(trace.request_id[1:] != trace.request_id[:-1], True)
    last[:-1] |= trace.phase[1:] != trace.phase[:-1]
    whole = last | (trace.phase == Phase.DECODE)
    bad = (used != trace.top_k) & ((used > 0) | whole[:, None])
    if bad.any():
        token, layer = (int(found[0]) for found in np.nonzero(bad))
        step, name = int(trace.position[token]), trace.metadata.moe_layer_ids[layer]
        line = int(rows.line[rows.step == step].max())
        what = f"step {step} has {used[token, layer]} choices in layer {name}"
        raise _at(line, f"{what}: must have {trace.top_k}; is the file cut off?")


def _at(line: int, what: str) -> InputError:
    return InputError([Problem("", f"line {line}", what)])
