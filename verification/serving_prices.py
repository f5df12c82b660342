"""Decode steps of measured closed loops against their prices, where such measurements are at hand.

``MOESIM_CLOSED_LOOPS`` names a CSV file with a row a loop: ``moesim_card``, ``moesim_profile``,
``group``, ``gpus``, ``experts`` (whole, tensor parallel, expert parallel), ``framework``,
``moe_kernel``, ``max_concurrency``, ``mean_input_tokens``, ``mean_output_tokens``,
``mean_ttft_ms``, ``mean_tpot_ms``. Nothing here is fitted to it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from verification.check import Measured, check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from moesim.trace.synthesis.parameters import SyntheticTrace

VARIABLE = "MOESIM_CLOSED_LOOPS"
MOST_PROMPTS = 0.25
"""Share of a token's time that prompts may take, by the slope of TTFT over input tokens."""
STEPS = 2
BACKENDS = {"MXFP8": "vllm-mxfp8", "Marlin": "vllm-marlin"}
"""Of vLLM: the software whose expert kernels a loop names."""
CARDS = {"qwen3-235b-a22b": "qwen3-235b-a22b@fp8_block"}
"""The loops' formats, where the card's is another."""


def loops() -> Path | None:
    """The file of measured loops; None, and a line, where there is none."""
    if (given := os.environ.get(VARIABLE)) and Path(given).is_file():
        return Path(given)
    print(f"no measured closed loops here: prices of serving are skipped ({VARIABLE}=FILE)")
    return None


def decodes(table: pd.DataFrame) -> pd.DataFrame:
    """The loops in which decoding is most of the time, with ``decode_ms``: the mean time between
    tokens less what the prompts between them take, by TTFT's slope at concurrency 4.
    """
    import numpy as np

    slope: dict[Any, float] = {}
    for key, mine in table[table["max_concurrency"] == 4].groupby(["group", "gpus"]):
        ends = mine.sort_values("mean_input_tokens").iloc[[0, -1]]
        run, rise = (np.diff(ends[name])[0] for name in ("mean_input_tokens", "mean_ttft_ms"))
        slope[key] = max(rise / run, 0.0) if run > 0 else float("nan")
    keys = list(zip(table["group"], table["gpus"], strict=True))
    per_token = np.array([slope.get(key, np.nan) for key in keys])
    prompts = table["mean_input_tokens"] / table["mean_output_tokens"] * table["max_concurrency"]
    found = table.assign(decode_ms=table["mean_tpot_ms"] - per_token * prompts)
    return found[found["decode_ms"] > (1 - MOST_PROMPTS) * found["mean_tpot_ms"]]


def experiment(row: Any, trace: str) -> dict[str, Any]:
    """A step of ``row`` at its mean context, captured whole."""
    gpus, requests = int(row.gpus), int(row.max_concurrency)
    parallelism: dict[str, Any] = {"expert": gpus}
    if gpus > 1:
        whole = str(row.experts).startswith("expert")
        parallelism |= {"dense": "tensor", "experts": "expert" if whole else "tensor"}
    software = {"sglang": "sglang", "trtllm": "trtllm"}.get(str(row.framework), "vllm")
    if software == "vllm":
        told = str(row.moe_kernel)
        software = next((own for word, own in BACKENDS.items() if word in told), software)
    name = str(row.moesim_card).split()[0]
    cache = "@kv_cache=fp8" if "KV cache fp8" in str(row.moe_kernel) else ""
    return {
        "model": CARDS.get(name, name) + cache,
        "hardware": row.moesim_profile,
        "software": software,
        "trace": trace,
        "execution": "graph",
        "parallelism": parallelism,
        "records": "summary",
        "workload": {
            "batching": {"kind": "static", "batch_size": requests},
            "requests": requests,
            "context": int(row.mean_input_tokens + row.mean_output_tokens / 2),
        },
    }


def drawn(name: str, folder: Path, requests: int = 128, rows: int = STEPS + 1) -> str:
    """A trace of ``requests`` of ``rows`` tokens with no more structure than popular experts, as
    stand-ins have.
    """
    from moesim.trace.parquet import write_trace
    from moesim.trace.synthesis.generate import synthesize

    path = folder / f"{name}.parquet"
    write_trace(synthesize(parameters(name, requests, rows)), path)
    return str(path)


def parameters(name: str, requests: int, rows: int) -> SyntheticTrace:
    """What ``drawn`` draws from."""
    from moesim.model import load_model
    from moesim.trace.synthesis.lengths import Fixed
    from moesim.trace.synthesis.parameters import Part, Requests, SyntheticTrace
    from moesim.trace.synthesis.popularity import Dirichlet
    from moesim.trace.synthesis.stand_in import CONCENTRATION

    model = load_model(name)
    (moe, *_) = [layer.moe for layer in model.moe_layers if layer.moe]
    layers = tuple(n for n, layer in enumerate(model.layers) if layer.moe)
    popular = Dirichlet(concentration=CONCENTRATION)
    phases = {"prefill_tokens": Fixed(tokens=8), "decode_tokens": Fixed(tokens=rows)}
    return SyntheticTrace(
        title=name,
        model=name,
        experts=moe.experts,
        top_k=moe.top_k,
        moe_layer_ids=layers,
        requests=Requests(count=requests, prefill_recorded=False, **phases),
        parts=(Part(phases=("decode",), layers=len(layers), popularity=popular),),
    )


@cache
def compared(path: Path) -> pd.DataFrame:
    """The decoding loops of ``path`` with the simulated ``step_ms`` of each."""
    import pandas as pd

    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import run

    table, steps = decodes(pd.read_csv(path)), []
    with TemporaryDirectory() as folder:
        names = {str(card).split()[0] for card in table["moesim_card"]}
        traces = {name: drawn(name, Path(folder)) for name in names}
        for row in table.itertuples():
            asked = experiment(row, traces[str(row.moesim_card).split()[0]])
            summary = run(load_experiment(asked).experiment, limit_steps=STEPS).summary
            steps.append(summary["duration_ms"] / STEPS)
    return table.assign(
        step_ms=steps,
        error=[
            100 * abs(step / decode - 1)
            for step, decode in zip(steps, table["decode_ms"], strict=True)
        ],
    )


if (FILE := loops()) is not None:

    @check(
        "Resident decode steps are as long as measured ones: the median error of closed loops",
        tolerance=12,
        why="kernels of other versions than the tables' differ by 1 to 18 %, engines' small kernels"
        " and hosts are not all in a price; a kernel or collective of another engine is 20 % off",
        unit="% of the measured",
    )
    def resident_decodes() -> Measured:
        assert FILE is not None, "checks are registered where there is a file"
        table = compared(FILE)
        error = table["error"]
        where = table["group"] + " x" + table["gpus"].astype(str)
        by_group = error.groupby(where).median().sort_values()
        told = ", ".join(f"{group} {value:.0f}" for group, value in by_group.items())
        detail = f"{len(table)} loops, p90 {error.quantile(0.9):.0f} %; medians: {told}"
        return Measured(float(error.median()), detail, lambda axes: draw(table, axes))


def draw(table: pd.DataFrame, axes: Axes) -> None:
    """Simulated over measured, with the diagonal."""
    for group, mine in table.groupby("group"):
        axes.loglog(mine["decode_ms"], mine["step_ms"], "o", label=group, markersize=4)
    ends = [table["decode_ms"].min(), table["decode_ms"].max()]
    axes.plot(ends, ends, color="black", linewidth=0.7)
    axes.set(xlabel="measured (ms a step)", ylabel="simulated (ms a step)")
    axes.legend(fontsize=6)
