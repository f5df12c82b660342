"""The measured speed of one run: a text, or a file of llama-bench."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from moesim.config.amounts.quantity import Dimension, QuantityError
from moesim.config.errors import InputError, Problem

OPTION = "--measured"
SPEED = Dimension(
    "a speed", "17.8 tokens/s", dict.fromkeys(("tokens/s", "tok/s", "t/s"), Fraction(1)), {}
)
_SHOWN = ("model_type", "cpu_info", "gpu_info", "n_threads", "build_commit")


@dataclass(frozen=True)
class Measured:
    """Decoded tokens a second; ``source``: what is known of the run, "" where nothing is.

    ``threads`` that computed; ``layers_on_cpu``: the first so many layers, dense ones too, kept
    their experts on the host; None where nobody says.
    """

    tokens_per_s: float
    source: str = ""
    threads: int | None = None
    layers_on_cpu: int | None = None


def measured_run(text: str) -> Measured:
    """The run that ``text`` is: a speed, as in '17.8 tokens/s', or the path of llama-bench's JSON
    (``-o json`` or ``jsonl``), whose one row of decoding counts.

    InputError, at ``OPTION``, for anything else.
    """
    path = Path(text)
    if path.is_file():
        return _of_llama_bench(path)
    try:
        speed = float(SPEED.parse(text))
    except QuantityError as error:
        what = f"{error}, or name a file of 'llama-bench -o json'"
        raise InputError([Problem(OPTION, "", what)]) from None
    if not speed:
        raise InputError([Problem(OPTION, "", f"'{text}' is no speed above 0")])
    return Measured(speed)


def _of_llama_bench(path: Path) -> Measured:
    rows = [row for row in _rows(path) if row.get("n_gen") and not row.get("n_prompt")]
    if len(rows) != 1:
        what = f"has {len(rows)} rows that only decode (n_gen above 0, n_prompt 0); one is needed"
        raise InputError([Problem(str(path), "", what)])
    (row,) = rows
    speed = row.get("avg_ts")
    if not isinstance(speed, int | float) or not 0 < speed < float("inf"):
        raise InputError([Problem(str(path), "", f"avg_ts '{speed}' is no number above 0")])
    told = [f"{key} {row[key]}" for key in _SHOWN if row.get(key)]
    name = f"llama-bench {path.name}, tg{row['n_gen']} at depth {row.get('n_depth', 0)}"
    threads, layers = (_whole(row.get(key)) for key in ("n_threads", "n_cpu_moe"))
    return Measured(float(speed), ", ".join([name, *told]), threads, layers)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of one on each line."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        what = f"is no JSON of 'llama-bench -o json': {error}"
        raise InputError([Problem(str(path), "", what)]) from None
    yield from (row for row in rows if isinstance(row, dict))
