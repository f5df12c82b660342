"""Experts read from a phone's flash: eight runs of a real engine, one of which fits two numbers.

BigMoeOnEdge (Helldez, Apache-2.0) ran Qwen3-30B-A3B Q4_K_M, 256 tokens, on a phone whose name it
does not give: means a token of its logs, ``hits_percent`` from the bytes of 384 experts a token.
Its cache is one LRU over all layers by bytes: of the 36,864 accesses that it traced with another
prompt, six experts a token and 4,000 MiB, that rule gives 99.97 % the engine's own hit or miss.

The trace that ships is that other prompt. Six experts a token that are a third larger, read in four
requests rather than three, stand for the eight of these runs: the slots, the requests and the bytes
of a miss are those of eight. How many lanes ``stream`` had is not said; four are assumed.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import moesim
from verification.check import RESULTS, Measured, check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MEASURED = Path(__file__).with_name("phone_runs.csv")
CARD = Path(moesim.__file__).parent / "model" / "cards" / "qwen3-30b-a3b.json"
FORMAT = "experts=q4_1,attention=q4_k,head=q6_k,embedding=q4_k"
WIDTH = 992  # of 5 bits a weight: 8/6 of the 2,869,248 bytes of a mean Q4_K_M expert, less 0.4 %
EXPERT = 3 * 2048 * WIDTH * 5 // 8
CACHED = 1_101_791_232 // 384  # bytes of a mean expert in the engine's cache
FITTED = "c2000_l2"
PAGES_MIB = 4700  # 5.9 GB were free before the mapped run, and dense weights take 1.1 of them
UNJUDGED = {
    "stream_ov": "its kernels, called expert by expert, took 412 ms in place of 123; reads did not",
    "mmap": "what page faults reach is another drive's number, half or a third of this one's",
}


class Fit(NamedTuple):
    """The drive's latency of a request, and the part of the memory's bandwidth that experts and
    dense weights reach.
    """

    latency_us: float
    bandwidth_percent: float


def experiment(run: dict[str, str], fit: Fit, model: str) -> dict[str, Any]:
    """One of the runs."""
    lanes, cached = run["lanes"] or "4", int(run["cache_mib"] or PAGES_MIB) * 2**20 // CACHED
    experts: dict[str, Any] = {
        "capacity": f"{cached * EXPERT} B",
        "policy": {"kind": "lru", "scope": "global"},
        "host": {"reads": 4, "path": "direct" if run["lanes"] else "mmap"},
    }
    if not cached:
        experts |= {"capacity": "1 slots/layer", "policy": {"kind": "stream", "buffers": 8}}
    if run["overlaps"] == "yes":
        experts |= {"kernels": "serial", "order": "resident_first"}
    return {
        "model": {"base": model, "format": FORMAT},
        "hardware": {
            "gpu": {"base": "phone-12gb", "bandwidth_fraction": f"{fit.bandwidth_percent} %"},
            "storage": {
                "base": "ufs-4",
                "latency": f"{fit.latency_us} us",
                "in_flight": int(lanes),
            },
        },
        "software": "ideal",
        "trace": "qwen3-30b-a3b",
        "workload": {"phase": "all"},
        "experts": experts,
    }


def simulated(run: dict[str, str], fit: Fit, model: str) -> dict[str, float]:
    """Means over the decode tokens."""
    steps = moesim.run(experiment(run, fit, model)).steps
    steps = steps[steps["phase"] == "decode"]
    ms = (steps["end_ns"] - steps["start_ns"]).mean() / 1e6
    io_ms = steps["waiting_for_storage_ns"].mean() / 1e6
    hits = steps["hits"].sum() / steps["activations"].sum()
    mb = steps["misses"].mean() * EXPERT / 1e6
    return {"ms": ms, "io_ms": io_ms, "compute_ms": ms - io_ms, "mb": mb, "hits": 100 * hits}


def fitted(run: dict[str, str], model: str) -> Fit:
    """To the compute of ``run`` and to the rate of its reads; times are linear in the latency, and
    in what the bandwidth takes.
    """
    rate = float(run["mb"]) / float(run["io_ms"])
    low, high = (simulated(run, Fit(us, 15), model) for us in (600, 1200))
    wanted = low["mb"] / rate
    latency = 600 + 600 * (wanted - low["io_ms"]) / (high["io_ms"] - low["io_ms"])
    less = simulated(run, Fit(600, 20), model)["compute_ms"]
    step = (low["compute_ms"] - less) / (1 / 15 - 1 / 20)
    inverse = 1 / 15 + (float(run["compute_ms"]) - low["compute_ms"]) / step
    return Fit(round(latency), round(1 / inverse, 1))


def write_model(path: Path) -> None:
    """The model whose six experts stand for eight."""
    sizes = {"moe_intermediate_size": WIDTH, "num_experts_per_tok": 6}
    path.write_text(json.dumps(json.loads(CARD.read_text()) | sizes))


@cache
def compared() -> pd.DataFrame:
    """A row a run: what was measured and what is predicted."""
    import pandas as pd

    with MEASURED.open(encoding="utf-8") as file:
        runs = {run["run"]: run for run in csv.DictReader(file)}
    rows = []
    with TemporaryDirectory() as folder:
        model = Path(folder) / "config.json"
        write_model(model)
        fit = fitted(runs[FITTED], str(model))
        print(f"fitted to {FITTED}: {fit.latency_us} us a request, {fit.bandwidth_percent} %")
        for name, run in runs.items():
            found = simulated(run, fit, str(model))
            pairs = [("ms", "ms"), ("mb", "mb"), ("hits_percent", "hits")]
            told = {f"measured_{key}": float(run[key] or "nan") for key, _ in pairs}
            said = {f"predicted_{key}": found[own] for key, own in pairs}
            rows.append({"run": name, **told, **said})
    table = pd.DataFrame(rows)
    table["ms_error_percent"] = 100 * (table["predicted_ms"] / table["measured_ms"] - 1)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "phone.csv", index=False)
    print(table.round(1).to_string(index=False))
    return table


@check(
    "Experts on a phone's flash: hits of its cache, with the routing of another prompt",
    tolerance=3,
    why="one prompt differs from another; the rule of the cache is known",
    unit="percentage points",
)
def phone_hits() -> Measured:
    table = compared().dropna(subset="measured_hits_percent")
    off = (table["predicted_hits_percent"] - table["measured_hits_percent"]).abs()
    return Measured(float(off.max()), f"worst: {table['run'].iloc[int(off.argmax())]}")


@check(
    "Experts on a phone's flash: ms a token of runs that no number was fitted to",
    tolerance=20,
    why="one latency stands for lanes that share a drive; set after a first look at the runs",
    unit="% of the measured",
)
def phone_time() -> Measured:
    table = compared()
    judged = table[~table["run"].isin([FITTED, *UNJUDGED])]
    off = judged["ms_error_percent"].abs()
    left = "; ".join(
        f"{row['run']} {row['ms_error_percent']:+.0f} %: {UNJUDGED[row['run']]}"
        for _, row in table[table["run"].isin(list(UNJUDGED))].iterrows()
    )
    detail = f"worst: {judged['run'].iloc[int(off.argmax())]}\n       not judged: {left}"
    return Measured(float(off.max()), detail, lambda axes: draw(table, axes))


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Predicted over measured ms, a point a run."""
    axes.plot(table["measured_ms"], table["predicted_ms"], "o")
    for _, row in table.iterrows():
        axes.annotate(str(row["run"]), (row["measured_ms"], row["predicted_ms"]), fontsize="small")
    ends = [200, 900]
    axes.plot(ends, ends, color="gray")
    axes.set_xlabel("measured, ms a token")
    axes.set_ylabel("predicted, ms a token")
