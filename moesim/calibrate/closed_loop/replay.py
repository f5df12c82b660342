"""moesim's replay of a recording, with the prices of a profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moesim.calibrate.closed_loop.recording import Recording
from moesim.calibrate.closed_loop.sizes import Sizes
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.results import Result
from moesim.trace.parquet import write_trace

CHARGES = {
    "attention, head": "attention_ns",
    "gate": "gate_ns",
    "host": "host_ns",
    "weights": "stall_ns",
    "experts": "experts_ns",
    "unpermute": "dispatch_combine_ns",
}
"""The parts that are compared, and the column of moesim's step table for each."""


@dataclass(frozen=True, eq=False)
class Replay:
    """What moesim says: ``activations`` and ``hits`` int64[steps, layers], times in ns over all
    steps; ``layers_ns`` int64[layers] without the model's head.
    """

    activations: NDArray[np.int64]
    hits: NDArray[np.int64]
    duration_ns: int
    parts_ns: dict[str, int]
    layers_ns: NDArray[np.int64]


@dataclass(frozen=True)
class Simulated:
    """The model, the hardware and the software profile of a replay, by name or path."""

    model: str
    hardware: str
    software: str


def replay(recording: Recording, sizes: Sizes, machine: Simulated, folder: Path) -> Replay:
    """Simulate ``recording``; its trace goes to ``folder``."""
    setting = recording.setting
    name = f"batch-{setting.batch}-slots-{setting.slots}"
    trace = folder / f"{name}.parquet"
    write_trace(recording.trace(sizes, machine.model), trace)
    experiment = {
        "name": name,
        "model": machine.model,
        "hardware": machine.hardware,
        "software": machine.software,
        "trace": str(trace.resolve()),
        "workload": {"batching": {"kind": "static", "batch_size": setting.batch}},
        "experts": {
            "capacity": f"{setting.slots} slots/layer",
            "policy": {"kind": "lru"},
            "kernels": "serial",
            "order": "id",
        },
    }
    result = simulate(load_experiment(experiment).experiment, check=True)
    if result.status != "ok":
        raise InputError(f"{name} cannot be replayed: {result.summary['reason']}")
    return _replay_of(result, recording.activations.shape)


def _replay_of(result: Result, shape: tuple[int, ...]) -> Replay:
    layers, steps = result.layers, result.steps
    activations, hits = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    where = layers["step"].to_numpy(), layers["layer"].to_numpy()
    activations[where], hits[where] = layers["distinct_experts"], layers["hits"]
    parts = {part: int(steps[column].sum()) for part, column in CHARGES.items()}
    spans = (layers["end_ns"] - layers["start_ns"]).groupby(layers["layer"]).sum()
    return Replay(activations, hits, int(steps["end_ns"].max()), parts, spans.to_numpy(np.int64))
