"""The measured speed of one run: a text, or a file of llama-bench."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from moesim.calibrate.host.bench_serve import Served, as_served, served_of, source_of
from moesim.calibrate.host.llama_bench import bench_rows
from moesim.config.amounts.dimensions import DURATION
from moesim.config.amounts.quantity import Dimension, QuantityError
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.text import decoded

OPTION = "--measured"
SPEED = Dimension(
    "a speed", "17.8 tokens/s", dict.fromkeys(("tokens/s", "tok/s", "t/s"), Fraction(1)), {}
)
TIME = Dimension("a time", "800 ms TTFT", DURATION.units, {})
A_TOKEN = re.compile(r"\s*(?:/|\ba\b|\bper\b)\s*tok(?:en)?$", re.IGNORECASE)
OF_A_REQUEST = re.compile(r"\b(tpot|ttft|e2el)\b", re.IGNORECASE)
NS_PER_MS = 1e6
SUFFIXES = (".json", ".jsonl", ".md", ".txt")
"""Of texts that can be no speed, but the name of a file that is not there."""
FILES = (
    "or name a file: llama-bench's table, 'llama-bench -o json', or what vllm bench or SGLang's"
    " bench_serving saved"
)
_SHOWN = ("model_type", "cpu_info", "gpu_info", "n_threads", "build_commit")


@dataclass(frozen=True)
class Measured:
    """Decoded tokens a second; ``source``: what is known of the run, "" where nothing is.

    ``threads`` that computed; ``layers_on_cpu``: the first so many layers, dense ones too, kept
    their experts on the host; ``parameters`` of its model; ``depth``: tokens in the cache before
    the first; None where nobody says. ``times``: mean times of requests by name, in ms, where those
    were measured; ``served``: what else is known of such requests.
    """

    tokens_per_s: float
    source: str = ""
    threads: int | None = None
    layers_on_cpu: int | None = None
    parameters: float | None = None
    depth: int | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    served: Served | None = None


def measured_run(text: str) -> Measured:
    """The run that ``text`` is: a speed, as in '17.8 tokens/s'; a mean time of requests, as in
    '56 ms/token', '800 ms TTFT' or '5 s E2EL'; or the path of what llama-bench printed (its table,
    ``-o json`` or ``jsonl``), whose one row of decoding counts, or of what ``vllm bench serve``
    saved.

    InputError, at ``OPTION``, for anything else.
    """
    path = Path(text)
    if path.is_file():
        found = as_served(decoded(read_file(path), str(path)))
        return _of_llama_bench(path) if found is None else _of_bench_serve(found, path)
    if path.suffix in SUFFIXES:
        raise InputError([Problem(OPTION, "", f"there is no file '{text}'")])
    try:
        if (timed := _time(text)) is not None:
            return timed
        speed = float(SPEED.parse(text))
    except QuantityError as error:
        raise InputError([Problem(OPTION, "", f"{_about(text, error)}; {FILES}")]) from None
    if not speed:
        raise InputError([Problem(OPTION, "", f"'{text}' is no speed above 0")])
    return Measured(speed)


def _time(text: str) -> Measured | None:
    """The mean time of requests that ``text`` is; None where it says of none."""
    told = A_TOKEN.sub(" tpot", text.strip())
    if (named := OF_A_REQUEST.search(told)) is None:
        return None
    time = float(TIME.parse(OF_A_REQUEST.sub("", told).strip(" :="))) / NS_PER_MS
    if not time:
        raise QuantityError(f"'{text}' is no time above 0")
    return Measured(1e3 / time, times={f"mean_{named[0].lower()}_ms": time})


def _about(text: str, error: QuantityError) -> str:
    """What is wrong with ``text``: the ``error``, or that it is a time of nothing that is named."""
    try:
        TIME.parse(text)
    except QuantityError:
        return str(error)
    return f"'{text}' does not say of what; write '{text}/token', '{text} TTFT' or '{text} E2EL'"


def _of_bench_serve(found: dict[str, Any], path: Path) -> Measured:
    served = served_of(found, path)
    speed = served.completed * served.answer / float(found["duration"])
    return Measured(speed, source_of(found, path), times=served.times, served=served)


def _of_llama_bench(path: Path) -> Measured:
    rows = [row for row in bench_rows(path) if row.get("n_gen") and not row.get("n_prompt")]
    if len(rows) != 1:
        what = f"has {len(rows)} rows that only decode (n_gen above 0 and n_prompt 0, as tg128 is)"
        raise InputError([Problem(str(path), "", f"{what}; one is needed")])
    (row,) = rows
    speed = row.get("avg_ts")
    if not isinstance(speed, int | float) or not 0 < speed < float("inf"):
        raise InputError([Problem(str(path), "", f"avg_ts '{speed}' is no number above 0")])
    told = [f"{key} {row[key]}" for key in _SHOWN if row.get(key)]
    depth = row.get("n_depth", 0)
    name = f"llama-bench {path.name}, tg{row['n_gen']} at depth {depth}"
    return Measured(
        float(speed),
        ", ".join([name, *told]),
        _whole(row.get("n_threads")),
        _layers(row),
        _positive(row.get("model_n_params", row.get("n_params"))),
        depth if type(depth) is int else None,
    )


def _layers(row: dict[str, Any]) -> int | None:
    """``n_cpu_moe``; 0 says that none is there where no tensor was placed by its name."""
    layers = row.get("n_cpu_moe")
    if layers == 0 and row.get("tensor_buft_overrides", "none") in ("none", ""):
        return 0
    return _whole(layers)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
