"""Whole measured closed loops, prompts, batching and all, where such measurements are at hand.

The file is that of ``serving_prices``, with ``isl``, ``osl``, ``max_num_seqs``,
``max_num_batched_tokens`` and ``gpu_memory_utilization`` of each loop. Requests are drawn as its
client draws them, and scheduled as the loop's engine does. The host takes no time between steps
here, and clients none, so that all batches are known before the run: that much TTFT lacks. Nothing
is fitted to the loops.
"""

from __future__ import annotations

from functools import cache
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
CONCURRENCIES = (4, 16, 64)
LONGEST = 1024
"""Tokens of the longest answers that are simulated."""
REQUESTS, ROWS = 64, 512
"""Of the trace. Prompts take its decode rows round and round: of few rows they would choose few of
the experts, where real ones choose nearly all.
"""
SHARE = 0.8
"""Of a length, where its draws begin."""
HOST = ("schedule", "per_request", "output", "per_request_out", "frontend")
"""What a software profile says of a host that serves."""


def served(row: Any, trace: str, folder: Path) -> dict[str, Any]:
    """The loop of ``row``."""
    asked, requests = experiment(row, trace), int(row.max_concurrency)
    seats = str(row.max_num_seqs).split()[0]
    most = int(seats) if seats.isdigit() else requests
    asked["software"] = without_host(str(asked["software"]), folder)
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
        "batching": {"kind": "continuous", "scheduler": scheduler(row, most)},
    }  # fmt: skip
    share = str(row.gpu_memory_utilization)
    if share.replace(".", "").isdigit():
        asked["memory"] = {"gpu_memory_utilization": f"{100 * float(share):g} %"}
    return asked


def scheduler(row: Any, most: int) -> dict[str, Any]:
    """The engine's, with the loop's budget of tokens."""
    budget = int("".join(filter(str.isdigit, str(row.max_num_batched_tokens))) or 8192)
    if row.framework == "sglang":
        return {"kind": "sglang", "chunked_prefill_size": budget, "max_num_seqs": most}
    if row.framework == "trtllm":
        return {"kind": "trtllm", "max_num_tokens": budget, "max_num_seqs": most}
    return {"kind": "vllm", "max_num_batched_tokens": budget, "max_num_seqs": most}


def without_host(name: str, folder: Path) -> str:
    """The software ``name`` whose host takes no time between steps, as a file in ``folder``."""
    path = folder / f"{name}.yaml"
    numbers = "".join(f"{key}: {{value: 0 us, source: nohost}}\n" for key in HOST)
    head = f'end_mark: "..."\ntitle: "{name}"\nbase: {name}\n'
    path.write_text(f'{head}sources: {{nohost: "left out"}}\n{numbers}...\n', encoding="utf-8")
    return str(path)


@cache
def simulated(path: Path) -> pd.DataFrame:
    """Loops of ``path`` whose answers are not too long, with ``ttft_ms``, ``tpot_ms`` and the
    errors of both in percent.
    """
    import pandas as pd

    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import simulate

    table, found = pd.read_csv(path), []
    table = table[(table["osl"] <= LONGEST) & table["max_concurrency"].isin(CONCURRENCIES)].copy()
    with TemporaryDirectory() as folder:
        names = {str(card).split()[0] for card in table["moesim_card"]}
        traces = {name: drawn(name, Path(folder), REQUESTS, ROWS) for name in names}
        for row in table.itertuples():
            asked = served(row, traces[str(row.moesim_card).split()[0]], Path(folder))
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


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Simulated over measured TPOT (dots) and TTFT (crosses), with the diagonal."""
    for group, mine in table.groupby("group"):
        (line,) = axes.loglog(mine["mean_tpot_ms"], mine["tpot_ms"], "o", label=group, markersize=4)
        axes.loglog(mine["mean_ttft_ms"], mine["ttft_ms"], "x", color=line.get_color())
    ends = [table["mean_tpot_ms"].min(), table["mean_ttft_ms"].max()]
    axes.plot(ends, ends, color="black", linewidth=0.7)
    axes.set(xlabel="measured (ms)", ylabel="simulated (ms)")
    axes.legend(fontsize=6)
