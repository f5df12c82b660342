"""Whole measured closed loops, prompts, batching and all, where such measurements are at hand.

The file is that of ``serving_prices``, with ``isl``, ``osl``, ``max_num_seqs``,
``max_num_batched_tokens`` and ``gpu_memory_utilization`` of each loop. Requests are drawn as its
client draws them, and scheduled as the loop's engine does, with the host that the software profile
has. Nothing is fitted to the loops.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from verification.check import Measured, check
from verification.serving_prices import drawn, experiment, loops

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WAVES = 10
"""Requests that a client sends, as the loops' do: the first ones all come at once."""
REQUESTS, ROWS = 64, 512
"""Of the trace. Prompts take its decode rows round and round: of few rows they would choose few of
the experts, where real ones choose nearly all.
"""
SHARE = 0.8
"""Of a length, where its draws begin."""
NOISE = {"tpot": 1.08, "ttft": 1.15}
"""Ratios of repeated measurements at p90."""
ALIKE = ["moesim_card", "framework", "isl", "osl", "max_concurrency"]
"""What loops have in common whose order is compared."""


def served(row: Any, trace: str) -> dict[str, Any]:
    """The loop of ``row``."""
    asked, requests = experiment(row, trace), int(row.max_concurrency)
    asked["execution"] = "auto"
    asked["decide"] = "device"
    asked["workload"] = {
        "requests": WAVES * requests,
        "arrivals": {"kind": "closed_loop", "max_concurrency": requests},
        "lengths": {
            "kind": "random", "rule": "inferencex", "range_ratio": SHARE,
            "input_len": int(row.isl), "output_len": int(row.osl),
        },
        "routing": {"kind": "draw", "prompts_from": "decode"},
        "batching": {"kind": "continuous", "scheduler": scheduler(row)},
    }  # fmt: skip
    share = str(row.gpu_memory_utilization)
    if share.replace(".", "").isdigit():
        asked["memory"] = {"gpu_memory_utilization": f"{100 * float(share):g} %"}
    return asked


def seats_of(row: Any) -> tuple[int, int]:
    """The most requests, and tokens, of a step."""
    seats = str(row.max_num_seqs).split()[0]
    most = int(seats) if seats.isdigit() else int(row.max_concurrency)
    return most, int("".join(filter(str.isdigit, str(row.max_num_batched_tokens))) or 8192)


def scheduler(row: Any) -> dict[str, Any]:
    """The engine's, with the loop's limits."""
    most, budget = seats_of(row)
    if row.framework == "sglang":
        return {"kind": "sglang", "chunked_prefill_size": budget, "max_num_seqs": most}
    if row.framework == "trtllm":
        return {"kind": "trtllm", "max_num_tokens": budget, "max_num_seqs": most}
    return {"kind": "vllm", "max_num_batched_tokens": budget, "max_num_seqs": most}


@cache
def simulated(path: Path) -> pd.DataFrame:
    """Loops of ``path``, with ``ttft_ms``, ``tpot_ms`` and the errors of both in percent."""
    import pandas as pd

    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import simulate

    table, found = pd.read_csv(path), []
    with TemporaryDirectory() as folder:
        names = {str(card).split()[0] for card in table["moesim_card"]}
        traces = {name: drawn(name, Path(folder), REQUESTS, ROWS) for name in names}
        for row in table.itertuples():
            asked = served(row, traces[str(row.moesim_card).split()[0]])
            summary = simulate(load_experiment(asked).experiment).summary
            found.append((summary.get("mean_ttft_ms"), summary.get("mean_tpot_ms")))
    for place, name in enumerate(("ttft", "tpot")):
        table[f"{name}_ms"] = [one[place] for one in found]
        table[f"{name}_error"] = 100 * (table[f"{name}_ms"] / table[f"mean_{name}_ms"] - 1)
    return table


if (FILE := loops()) is not None:

    @check(
        "Served requests get their tokens as measured ones do: the median error of TPOT",
        tolerance=15,
        why="a step's kernels are off by as much (resident_decodes), and prompts between answers,"
        " whose kernels are further off, come on top",
        unit="% of the measured",
    )
    def served_requests() -> Measured:
        assert FILE is not None, "checks are registered where there is a file"
        table = simulated(FILE)
        where = table["group"] + " x" + table["gpus"].astype(str)
        told = [f"{len(table)} loops, of which {int(table['tpot_ms'].isna().sum())} do not fit"]
        for name in ("tpot", "ttft"):
            error = table[f"{name}_error"]
            size = error.abs()
            medians = error.groupby(where).median().items()
            told.append(
                f"{name.upper()}: median {size.median():.0f} %, p90 {size.quantile(0.9):.0f} %; "
                + ", ".join(f"{group} {value:+.0f}" for group, value in medians)
            )
        deviation = float(table["tpot_error"].abs().median())
        return Measured(deviation, "\n       ".join(told), lambda axes: draw(table, axes))

    @check(
        "More GPUs, and other cards, are as much faster or slower as measured: pairs the wrong way",
        tolerance=10,
        why="of pairs whose measurements differ by more than repeated ones do at p90",
        unit="% of the pairs",
    )
    def served_orders() -> Measured:
        assert FILE is not None, "checks are registered where there is a file"
        pairs = pairs_of(simulated(FILE))
        wrong = pairs[~pairs["right"]]
        told = [f"{len(wrong)} of {len(pairs)} pairs the wrong way"]
        for (what, name), mine in pairs.groupby(["what", "name"]):
            told.append(f"{name} by {what}: {int(mine['right'].sum())} of {len(mine)} right")
        told += [f"wrong: {one.pair}" for one in wrong.itertuples()]
        deviation = 100 * len(wrong) / max(1, len(pairs))
        return Measured(deviation, "\n       ".join(told), lambda axes: draw_pairs(pairs, axes))


def pairs_of(table: pd.DataFrame) -> pd.DataFrame:
    """Loops of ``table`` that differ in their number of GPUs alone, or in their card alone, where
    what is ``name``d differs by more than NOISE: its ratio ``measured`` and ``simulated``, and
    whether the order is ``right``.
    """
    import pandas as pd

    found: list[dict[str, Any]] = []
    for _, alike in table.groupby(ALIKE):
        rows: list[Any] = list(alike.itertuples())
        for one, other in combinations(rows, 2):
            cards, counts = one.gpu != other.gpu, one.gpus != other.gpus
            if cards != counts:
                found += [
                    compared(one, other, name, "cards" if cards else "GPUs") for name in NOISE
                ]
    return pd.DataFrame([one for one in found if one["differ"]])


def compared(one: Any, other: Any, name: str, what: str) -> dict[str, Any]:
    """How ``name`` of two loops compares."""
    key = f"mean_{name}_ms"
    measured = getattr(other, key) / getattr(one, key)
    simulated = getattr(other, f"{name}_ms") / getattr(one, f"{name}_ms")
    pair = f"{one.gpus} {one.gpu} to {other.gpus} {other.gpu}, {one.isl}/{one.osl}"
    pair += f" at {one.max_concurrency}, {name}: measured {measured:.2f}, simulated {simulated:.2f}"
    return {
        "what": what, "name": name, "pair": pair, "measured": measured, "simulated": simulated,
        "differ": abs(math.log(measured)) > math.log(NOISE[name]),
        "right": (measured > 1) == (simulated > 1),
    }  # fmt: skip


def draw_pairs(pairs: pd.DataFrame, axes: Axes) -> None:
    """Simulated over measured ratios, with the diagonal; the quadrants hold the right orders."""
    for name, mine in pairs.groupby("name"):
        axes.loglog(mine["measured"], mine["simulated"], "o", label=name, markersize=4)
    axes.axhline(1, color="black", linewidth=0.7)
    axes.axvline(1, color="black", linewidth=0.7)
    axes.set(xlabel="measured ratio", ylabel="simulated ratio")
    axes.legend(fontsize=6)


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Simulated over measured TPOT (dots) and TTFT (crosses), with the diagonal."""
    for group, mine in table.groupby("group"):
        (line,) = axes.loglog(mine["mean_tpot_ms"], mine["tpot_ms"], "o", label=group, markersize=4)
        axes.loglog(mine["mean_ttft_ms"], mine["ttft_ms"], "x", color=line.get_color())
    ends = [table["mean_tpot_ms"].min(), table["mean_ttft_ms"].max()]
    axes.plot(ends, ends, color="black", linewidth=0.7)
    axes.set(xlabel="measured (ms)", ylabel="simulated (ms)")
    axes.legend(fontsize=6)
