"""What a visitor picks on the page of a sweep over models and machines: what one has on one side,
what can be done with it on the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from moesim.config.amounts.sizes import GIB
from moesim.experiment.loading.once import read_once
from moesim.report.page.parts import command
from moesim.report.run.components import cause_in_words
from moesim.results.folder import read_experiment
from moesim.sweep.found import Sweep
from moesim.sweep.guessed import GUESSED
from moesim.sweep.point import point_folder
from moesim.sweep.speeds import GOOD, GOOD_COST
from moesim.sweep.words import in_words, last_word, word

HAD = (
    "model", "hardware.gpu", "hardware.host", "hardware", "workload.context",
    "workload.batching.batch_size",
)  # fmt: skip
"""Where paths begin of what somebody has or wants; all others are choices."""
ON_CPU, CAPACITY = "experts.on_cpu.layers", "experts.capacity"
SPEED = "output_throughput"
DIGITS = 4
NUMBERS: Mapping[str, tuple[str, float]] = {
    "tokens/s": (SPEED, 1.0),
    "from": ("low", 1.0),
    "to": ("high", 1.0),
    "TTFT ms": ("mean_ttft_ms", 1.0),
    "TPOT ms": ("mean_tpot_ms", 1.0),
    "good %": (GOOD, 100.0),
    "$ a M tokens": ("cost_usd_per_million_output_tokens", 1.0),
    "$ a M good": (GOOD_COST, 1.0),
    "J a token": ("joules_per_output_token", 1.0),
    "peak GiB": ("peak_memory_bytes", 1 / GIB),
}
"""Columns of an answer: the key, and what it is multiplied by."""
SHARE, NUMBER = "time_share.", "number"
LOW, HIGH = (f"price_interval.{SPEED}.{end}" for end in ("low", "high"))
KEYS = {"status", "reason", LOW, HIGH, *(key for key, _ in NUMBERS.values())}
"""What of a point is read, beside its axes and what its time goes to."""
Row = Mapping[str, Any]


@dataclass
class Texts:
    """Texts that many rows share, each kept once."""

    places: dict[str, int] = field(default_factory=dict)

    def place(self, text: str) -> int:
        """Where ``text`` stands."""
        return self.places.setdefault(text, len(self.places))


def chooser_of(sweep: Sweep) -> dict[str, Any] | None:
    """What a page needs to let a visitor choose; None of a sweep over fewer than two things that
    one has.

    ``had``: a title and the values of each; ``numbers``: headings; ``by``: the one that is best to
    begin with, where requests set how fast no speed; ``rows``: places of the values,
    then the place of the choice's text, the numbers, and the places of what limits it or why it
    does not run, and of the engine's command; ``texts``.
    """
    had = _had(sweep)
    if len(had) < 2:  # noqa: PLR2004
        return None
    texts, lines, kept = Texts(), _Lines(sweep), sweep.kept_up.to_dict()
    values = {axis: list(dict.fromkeys(sweep.table[axis].astype(str))) for axis in had}
    with read_once():
        rows = [
            [*(values[axis].index(str(own[0][axis])) for axis in had), texts.place(what),
             *_numbers(own, kept), texts.place(_told(own)), texts.place(lines.of(own))]
            for what, own in _answers(sweep, had)
        ]  # fmt: skip
    return {
        "had": [
            [last_word(axis).replace("gpu", "GPU"), [in_words(value) for value in values[axis]]]
            for axis in had
        ],
        "numbers": list(NUMBERS),
        "by": _by(sweep) if any(kept.values()) else next(iter(NUMBERS)),
        "rows": rows,
        "texts": list(texts.places),
    }


def _machine(sweep: Sweep) -> list[str]:
    """The axes of what one has in the order of ``HAD``, also those that follow from others, as a
    link from its GPU.
    """
    found = [a for a in sweep.varying if a.startswith(HAD) and a not in GUESSED]
    return sorted(
        found, key=lambda axis: next(n for n, head in enumerate(HAD) if axis.startswith(head))
    )


def _had(sweep: Sweep) -> list[str]:
    """The same but for what follows from an earlier one."""
    kept: list[str] = []
    for axis in _machine(sweep):
        if not any(axis in sweep.together(earlier) for earlier in kept):
            kept.append(axis)
    return kept


def _answers(sweep: Sweep, had: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Each choice for each thing that one has: the points that differ in what is guessed alone."""
    axes = [a for a in sweep.varying if a not in {*_machine(sweep), *GUESSED}]
    known = [name for name in map(str, sweep.table) if name in KEYS or name.startswith(SHARE)]
    table = sweep.table[[*sweep.axes, *(name for name in known if name not in sweep.axes)]]
    found: dict[tuple[str, ...], list[Row]] = {}
    for row, number in zip(table.to_dict("records"), table.index, strict=True):
        named = {str(key): value for key, value in row.items()} | {NUMBER: int(number)}
        what = choice_in_words({axis: row[axis] for axis in axes})
        found.setdefault((*(str(row[axis]) for axis in had), what), []).append(named)
    yield from ((key[-1], own) for key, own in found.items())


def choice_in_words(values: Mapping[str, Any]) -> str:
    """What is done, by axis: where the experts are in a sentence, all else as labels have it."""
    layers, room = (str(values.get(axis, "0")) for axis in (ON_CPU, CAPACITY))
    of = "1 layer" if layers == "1" else f"{layers} layers"
    told = [] if layers == "0" else [f"experts of {of} on the CPU"]
    if CAPACITY in values:
        rest = "all others" if told else "all experts"
        words = {"all": f"{rest} on the GPU", "auto": "missing experts copied"}
        told.append(words.get(room) or word(CAPACITY, room))
    told += [word(axis, value) for axis, value in values.items() if axis not in (ON_CPU, CAPACITY)]
    return ", ".join(told) or "as it is"


def middle(own: Sequence[Row]) -> Row | None:
    """Of those that ran the one in the middle of what is guessed; None where none did."""
    ran = sorted((row for row in own if row["status"] == "ok"), key=lambda row: row[SPEED])
    return ran[len(ran) // 2] if ran else None


def _by(sweep: Sweep) -> str:
    """What tells choices apart that all give what requests ask for, by what is known of them."""
    known = (key for key in (GOOD_COST, GOOD, "joules_per_output_token") if key in sweep.table)
    best = next(known, SPEED)
    return next(name for name, (key, _) in NUMBERS.items() if key == best)


def _numbers(own: Sequence[Row], kept: Mapping[Hashable, bool]) -> list[float | None]:
    """Those of the answer in the middle, and the range of all; no range where it ``kept`` up with
    requests, which set its speed.
    """
    row = middle(own)
    if row is None:
        return [None] * len(NUMBERS)
    ends = dict.fromkeys(("low", "high")) if kept.get(row[NUMBER]) else _ends(own)
    found = ({**row, **ends}.get(key) for key, _ in NUMBERS.values())
    return [
        None if value is None or pd.isna(value) else float(f"{value * factor:.{DIGITS}g}")
        for value, (_, factor) in zip(found, NUMBERS.values(), strict=True)
    ]


def _ends(own: Sequence[Row]) -> dict[str, float | None]:
    """Between which the speed lies by the prices of all that ran; None where nothing is known to
    move it.
    """
    ran = [one for one in own if one["status"] == "ok"]
    ends = {}
    for name, key, furthest in (("low", LOW, min), ("high", HIGH, max)):
        known = [value for one in ran if (value := one.get(key)) is not None and not pd.isna(value)]
        guessed = [one[SPEED] for one in ran] if len(ran) > 1 else []
        ends[name] = furthest([*known, *guessed], default=None)
    return ends


def _told(own: Sequence[Row]) -> str:
    """What an answer waits for most, or why there is none."""
    row = middle(own)
    if row is None:
        return f"{str(own[0]['status']).replace('_', ' ')}: {own[0]['reason']}"
    shares = {k: v for k, v in row.items() if k.startswith(SHARE) and not pd.isna(v)}
    if not shares:
        return ""
    cause = max(shares, key=lambda key: shares[key])
    return f"{cause_in_words(cause.removeprefix(SHARE))}, {100 * shares[cause]:.0f} %"


@dataclass(frozen=True)
class _Lines:
    """The engines' commands of points: which host it is does not change them."""

    sweep: Sweep
    known: dict[str, str] = field(default_factory=dict)

    @cached_property
    def axes(self) -> list[str]:
        """What changes a command: asked for once, as that reads the whole table."""
        return [a for a in self.sweep.varying if not a.startswith("hardware.host")]

    def of(self, own: Sequence[Row]) -> str:
        """Of the answer in the middle; nothing where none ran, or no engine has words for it."""
        row = middle(own)
        if row is None:
            return ""
        key = repr([row[axis] for axis in self.axes])
        if key not in self.known:
            experiment = read_experiment(point_folder(self.sweep.folder, row[NUMBER]))
            line, *notes = command(experiment) or [""]
            self.known[key] = line or (f"no command: {'; '.join(notes)}" if notes else "")
        return self.known[key]
