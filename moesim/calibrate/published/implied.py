"""What a measured run would imply of a prediction that is far off it, by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware

SMALL = 0.02
"""Of the time: parts below it are not told."""
LARGE = 1000


def implied(
    experiment: Experiment, summary: Mapping[str, Any], predicted: float, measured: float
) -> str:
    """The predicted milliseconds a token by cause, those measured, and what the largest part would
    have had to take, with the bytes a second that this is, had all else been as predicted.

    ``summary`` of the run of ``experiment``; ``predicted`` and ``measured`` in tokens/s, which may
    be those of one request of many.
    """
    predicted_ms, measured_ms = 1e3 / predicted, 1e3 / measured
    parts = {name: share * predicted_ms for name, share in summary["time_share"].items()}
    ordered = sorted(parts, key=lambda name: -parts[name])
    told = [f"{_words(n)} {_ms(parts[n])}" for n in ordered if parts[n] > SMALL * predicted_ms]
    head = (
        f"predicted {_ms(predicted_ms)} ms a token ({', '.join(told)}), measured {_ms(measured_ms)}"
    )
    first, own = ordered[0], parts[ordered[0]]
    left = own + measured_ms - predicted_ms
    if left <= 0:
        rest = predicted_ms - own
        return f"{head}: all but {_words(first)} takes {_ms(rest)} ms already"
    rate = _rate(experiment, summary, first, own)
    told_rate = "" if rate is None else f", {rate * own / left:.3g} GB/s in place of {rate:.3g}"
    times = f"{_ms(left)} ms, x {left / own:.2g}"
    return f"{head}: were all else right, {_words(first)} took {times}{told_rate}"


def _ms(time: float) -> str:
    """Three digits."""
    return f"{time:.3g}" if time < LARGE else f"{round(time, -1):.0f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _rate(
    experiment: Experiment, summary: Mapping[str, Any], part: str, own_ms: float
) -> float | None:
    """GB/s of the predicted part, where it is of bytes that are known."""
    if part == "waiting_for_cpu":
        host = load_hardware(experiment.hardware, experiment.folders).host
        return float(host.expert_bytes_per_second / 1e9)
    alone = experiment.workload.batching.model_dump().get("batch_size") == 1
    if part == "waiting_for_weights" and summary.get("bytes_h2d") and alone:
        return float(summary["bytes_h2d"] / summary["tokens"] / own_ms / 1e6)
    return None
