"""AISimulate and moesim beside each other on measured closed loops: the same loops, the same
requests, in one run, errors and processor seconds.

``MOESIM_CLOSED_LOOPS`` names the loops (``serving_prices``, ``served_loops``), and
``MOESIM_AISIMULATE`` an interpreter that has AISimulate. Of each loop moesim draws the requests;
AISimulate gets their lengths as a trace. Both have all prices as shipped.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from verification import aisimulate_rows
from verification.check import Measured, check
from verification.peers import interpreter_of, told_by
from verification.served_loops import REQUESTS, ROWS, seats_of, served
from verification.serving_prices import drawn, loops

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

VARIABLE = "MOESIM_AISIMULATE"
CONCURRENCIES, LONGEST = (4, 16, 64), 1024
"""Of the loops that both are asked: not the longest answers."""
COUNT = 20
BLOCK = 512
"""Tokens of a block of AISimulate's traces."""
MODELS = {
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "deepseek-v3": "deepseek-ai/DeepSeek-R1",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B-FP8",
}


def asked_of_peer(row: Any, trace: Path) -> dict[str, Any]:
    """The loop of ``row`` for AISimulate, with the lengths in ``trace``."""
    gpus, whole = int(row.gpus), str(row.experts).startswith("expert")
    most, budget = seats_of(row)
    experts = {"moe_expert" if whole else "moe_tensor": gpus}
    share = str(row.gpu_memory_utilization)
    told = share.replace(".", "").isdigit()
    capacity = {"memory_fraction": float(share)} if told else {}
    load = {"type": "concurrency", "concurrency": int(row.max_concurrency)}
    worker = {
        "parallelism": {"tensor": gpus, **experts},
        "scheduler": {"max_batched_tokens": budget, "max_sequences": most},
        "kv_cache": {"prefix_caching": False, "capacity": capacity},
    }
    return {
        "traffic": {"source": {"type": "trace", "paths": [str(trace)]}, "load": load},
        "engine": {
            "mode": "aggregated",
            "model": MODELS[str(row.moesim_card).split()[0]],
            "hardware": str(row.moesim_profile).replace("-", "_"),
            "backend": str(row.framework),
            "workers": {"aggregated": worker},
        },
    }


def write_trace(requests: pd.DataFrame, path: Path) -> Path:
    """The lengths of ``requests``, in order of arrival, no two of which begin alike."""
    ids, lines = 0, []
    order = requests.sort_values(["arrival_ns", "request_id"])
    for prompt, answer in order[["input_tokens", "output_tokens"]].itertuples(index=False):
        blocks = -(-prompt // BLOCK)
        lengths = {"input_length": int(prompt), "output_length": int(answer)}
        lines.append({"timestamp": 0, **lengths, "hash_ids": [*range(ids, ids + blocks)]})
        ids += blocks
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def ours(table: pd.DataFrame, folder: Path) -> tuple[list[tuple[float, ...]], list[dict[str, Any]]]:
    """TTFT, TPOT (ms) and processor seconds of each loop, and what AISimulate is asked."""
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import simulate

    names = {str(card).split()[0] for card in table["moesim_card"]}
    traces = {name: drawn(name, folder, REQUESTS, ROWS) for name in names}
    told, asked = [], []
    for number, row in enumerate(table.itertuples()):
        begun = time.process_time()
        loop = served(row, traces[str(row.moesim_card).split()[0]])
        result = simulate(load_experiment(loop).experiment)
        spent = time.process_time() - begun
        numbers = [float(result.summary[name] or "nan") for name in aisimulate_rows.NAMES]
        told.append((*numbers, spent))
        assert result.requests is not None, "requests are served"
        trace = write_trace(result.requests, folder / f"{number}.jsonl")
        asked.append(asked_of_peer(row, trace))
    return told, asked


def theirs(python: Path, asked: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    """TTFT, TPOT (ms) and processor seconds that AISimulate says and takes."""
    found = told_by("AISimulate", python, aisimulate_rows.__file__, asked)
    return [tuple(one[name] for name in (*aisimulate_rows.NAMES, "seconds")) for one in found]


@cache
def beside(path: Path, python: Path) -> pd.DataFrame:
    """COUNT loops of ``path``, evenly from its first to its last that is simulated, with ``ttft``,
    ``tpot`` (errors in percent) and ``seconds`` of ``moesim`` and ``aisimulate``.
    """
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    table = table[(table["osl"] <= LONGEST) & table["max_concurrency"].isin(CONCURRENCIES)]
    table = table.iloc[np.linspace(0, len(table) - 1, COUNT).round().astype(int)].copy()
    with TemporaryDirectory() as folder:
        mine, asked = ours(table, Path(folder))
        for who, told in (("moesim", mine), ("aisimulate", theirs(python, asked))):
            values = np.array(told, dtype=float)
            for place, name in enumerate(("ttft", "tpot")):
                measured = table[f"mean_{name}_ms"].to_numpy()
                table[f"{who}_{name}"] = 100 * (values[:, place] / measured - 1)
            table[f"{who}_seconds"] = values[:, 2]
    return table


def told_of(table: pd.DataFrame, who: str) -> str:
    """Errors and seconds of one of the two."""
    words = [who]
    for name in ("tpot", "ttft"):
        error = table[f"{who}_{name}"]
        size = error.abs()
        words.append(
            f"{name.upper()} {size.median():.1f} %, p90 {size.quantile(0.9):.0f} %,"
            f" {error.median():+.0f} %;"
        )
    first, *rest = table[f"{who}_seconds"]
    middle = sorted(rest)[len(rest) // 2]
    words.append(f"{first:.1f} s the first, then {middle:.2f} s each in the median,")
    return " ".join([*words, f"{first + sum(rest):.0f} s all"])


def nearer(table: pd.DataFrame) -> str:
    """Of how many loops the peer's errors are the smaller ones."""
    words = []
    for name in ("tpot", "ttft"):
        mine, other = (table[f"{who}_{name}"].abs() for who in ("moesim", "aisimulate"))
        words.append(f"{name.upper()} of {int((other < mine).sum())}")
    return f"aisimulate is nearer in {', '.join(words)} of {len(table)}"


def row_of(one: Any) -> str:
    """A loop: errors and seconds of both."""
    where = f"{one.group} x{one.gpus} {one.isl}/{one.osl} at {one.max_concurrency}"
    parts = [
        f"{getattr(one, f'{who}_tpot'):+5.0f} {getattr(one, f'{who}_ttft'):+5.0f}"
        f" {getattr(one, f'{who}_seconds'):6.2f}"
        for who in ("moesim", "aisimulate")
    ]
    return f"{where:42} {'  | '.join(parts)}"


if (FILE := loops()) is not None and (PYTHON := interpreter_of("AISimulate", VARIABLE)) is not None:

    @check(
        "moesim's TPOT of measured loops is no further off than AISimulate's: the median error",
        tolerance=1.5,
        why="of twenty loops; where both have tables of the kernels that ran they are alike",
        unit="points more than AISimulate's",
    )
    def beside_aisimulate() -> Measured:
        assert FILE is not None, "checks are registered where there is a file"
        assert PYTHON is not None, "and AISimulate"
        table = beside(FILE, PYTHON)
        mine, other = (table[f"{who}_tpot"].abs().median() for who in ("moesim", "aisimulate"))
        head = f"{'':42} {'TPOT  TTFT % moesim s':>20} | {'TPOT  TTFT % peer s':>20}"
        told = [told_of(table, who) for who in ("moesim", "aisimulate")]
        told += [nearer(table), head, *(row_of(one) for one in table.itertuples())]
        return Measured(float(mine - other), "\n       ".join(told), lambda axes: draw(table, axes))


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Errors of TTFT over errors of TPOT."""
    for who, mark in (("moesim", "o"), ("aisimulate", "x")):
        axes.plot(table[f"{who}_tpot"], table[f"{who}_ttft"], mark, label=who, markersize=4)
    axes.axhline(0, color="black", linewidth=0.7)
    axes.axvline(0, color="black", linewidth=0.7)
    axes.set(xlabel="error of TPOT (%)", ylabel="error of TTFT (%)")
    axes.legend(fontsize=6)
