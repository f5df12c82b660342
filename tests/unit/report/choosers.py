"""A sweep over models and machines, without a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from moesim.results import Result
from moesim.sweep import run_sweep

HOSTILE = "</script><img src=x onerror=alert(1)>"
SHARES = {"30 %": 20.0, "50 %": 30.0, "70 %": 44.0}
MODELS, GPUS = ("small", HOSTILE), ("g1", "g2")


def evaluate(experiment: dict[str, Any]) -> Result:
    """Faster with a better host; nothing is resident on g2."""
    model, gpu, share, room = (experiment[key] for key in ("model", "gpu", "share", "room"))
    if gpu == "g2" and room == "all":
        return Result(
            {"name": "made", "status": "out_of_memory", "reason": "weights do not fit"}, experiment
        )
    speed = SHARES[share] * (2 if model == "small" else 1) * (1.5 if room == "all" else 1)
    off = experiment["off"]
    summary: dict[str, Any] = {
        "name": "made", "status": "ok", "reason": None, "tokens": 100, "duration_ms": 1e5 / speed,
        "output_throughput": speed, "mean_tpot_ms": 1e3 / speed, "peak_memory_bytes": 2**30,
        "joules_per_output_token": 100 / speed,
        "price_interval": {
            "confidence": 0.9, "unknown_share": 0.0, "reason": None, "factors": [],
            "output_throughput": {
                "value": speed, "low": off and speed / off, "high": off and speed * off,
            },
        },
        "time_share": {"waiting_for_cpu": 0.75, "experts": 0.25},
    }  # fmt: skip
    return Result(summary, experiment)


def make(out: Path, shares: Sequence[str] = tuple(SHARES), off: float | None = 1.25) -> Path:
    """Write it: of these shares, whose prices may be off by so much."""
    points = [
        (
            {"model": model, "hardware.gpu": gpu, "hardware.link": f"link of {gpu}",
             "hardware.host.expert_fraction": share, "experts.capacity": room},
            {"name": "made", "model": model, "gpu": gpu, "share": share, "room": room,
             "off": off},
        )
        for model, gpu, share, room in product(MODELS, GPUS, shares, ("all", "auto"))
    ]  # fmt: skip
    drawn = {"name": "made", "figures": ["time_breakdown"]}
    run_sweep(drawn, points, out, evaluate=evaluate)
    return out
