"""What a measured run would imply of a prediction that is far off it, by arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from moesim.experiment.loading.traces import model_of
from moesim.experiment.schema.experiment import Experiment
from moesim.results import Result

SMALL = 0.02
"""Of the time: parts below it are not told."""
LARGE = 1000
OF_ONE = "a token"
TIMES = {
    "mean_tpot_ms": (OF_ONE, ("decode_",)),
    "mean_ttft_ms": ("to the first token", ("ttft_",)),
    "mean_e2el_ms": ("end to end", ("ttft_", "decode_")),
}
"""Of each time that a row may be of: its words, and how the columns of its parts begin."""


def implied(
    experiment: Experiment, result: Result, predicted: float, measured: float, of: str = ""
) -> str:
    """The predicted milliseconds a token (or of the time ``of``, one of ``TIMES``) by cause, those
    measured, and what the largest part would have had to take, a token's with the bytes a second
    that this is, had all else been as predicted.

    ``result`` of the run of ``experiment``; ``predicted`` and ``measured`` in tokens/s, which may
    be those of one request of many, or as many a second as took that time.
    """
    predicted_ms, measured_ms = 1e3 / predicted, 1e3 / measured
    what, _ = TIMES.get(of, (OF_ONE, ()))
    parts = {name: share * predicted_ms for name, share in _shares(result, of).items()}
    ordered = sorted(parts, key=lambda name: -parts[name])
    told = [f"{_words(n)} {_ms(parts[n])}" for n in ordered if parts[n] > SMALL * predicted_ms]
    head = f"predicted {_ms(predicted_ms)} ms {what} ({', '.join(told)})"
    head = f"{head}, measured {_ms(measured_ms)}"
    first, own = ordered[0], parts[ordered[0]]
    left = own + measured_ms - predicted_ms
    if left <= 0:
        rest = predicted_ms - own
        return f"{head}: all but {_words(first)} takes {_ms(rest)} ms already"
    rate = _rate(experiment, result.summary, first, own) if what == OF_ONE else None
    told_rate = "" if rate is None else f", {rate * own / left:.3g} GB/s in place of {rate:.3g}"
    times = f"{_ms(left)} ms, x {left / own:.2g}"
    return f"{head}: were all else right, {_words(first)} took {times}{told_rate}"


def _shares(result: Result, of: str) -> Mapping[str, float]:
    """By cause, of the time ``of`` of all requests where these have its parts, else of the run."""
    sums: dict[str, float] = defaultdict(float)
    _, starts = TIMES.get(of, (OF_ONE, ()))
    for column, mean in result.requests.mean(numeric_only=True).items() if starts else ():
        start, _, name = str(column).removesuffix("_ms").partition("_")
        if name and str(column).endswith("_ms") and f"{start}_" in starts:
            sums[name] += mean
    whole = sum(sums.values())
    share: Mapping[str, float] = result.summary["time_share"]
    return {name: part / whole for name, part in sums.items()} if whole else share


def _ms(time: float) -> str:
    """Three digits."""
    return f"{time:.3g}" if time < LARGE else f"{round(time, -1):.0f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _rate(
    experiment: Experiment, summary: Mapping[str, Any], part: str, own_ms: float
) -> float | None:
    """GB/s of the predicted part, where it is of bytes that are known."""
    alone = experiment.workload.batching.model_dump().get("batch_size") == 1
    if part == "waiting_for_cpu" and alone and not experiment.host_layers:
        layers = model_of(experiment).moe_layers
        each = sum(layer.expert_bytes / layer.moe.experts for layer in layers if layer.moe)
        read = summary["misses_on_cpu"] * each / len(layers)
    elif part == "waiting_for_weights" and alone:
        read = summary.get("bytes_h2d") or 0
    else:
        return None
    return float(read / summary["tokens"] / own_ms / 1e6) if read else None
