"""A run with one thing changed: which part of its machine, or room for experts, would help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from moesim.config.errors import InputError
from moesim.engine.progress import Progress
from moesim.experiment.building.build import with_layers_fitted
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.resolve import resolved_from
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory, Serving
from moesim.hardware import load_hardware
from moesim.memory.host.on_cpu import OnCpu
from moesim.metrics.price_interval import timed
from moesim.model import ModelSpec
from moesim.results.rebuild import rebuild
from moesim.sweep.advise.choices import with_settings
from moesim.sweep.advise.profiles import write_software, write_upgrade
from moesim.sweep.advise.upgrades import UPGRADES

MOST_ACTIVATIONS: Mapping[str, int] = {"replay": 500_000, "des": 40_000}
"""Of a replay, by engine: a second or less; longer runs are replayed from their begin."""
LEAST_STEPS = 8
MOST_S = 20.0
"""Of a processor, all replays together; what takes longer is left to other commands."""
KERNELS = ("attention", "gate", "dispatch_combine", "experts")
CAUSES: Mapping[str, tuple[str, ...]] = {
    "next_pcie": ("waiting_for_weights",),
    "twice_dram": ("waiting_for_cpu",),
    "twice_cores": ("waiting_for_cpu",),
    "twice_gpu_bandwidth": KERNELS,
    "no_software": ("host",),
}
"""What of the time each upgrade shortens."""
OF_DEVICE: Mapping[str, str] = {
    "twice_dram": "twice_near_bandwidth", "twice_cores": "twice_near_rate"
}  # fmt: skip
"""What stands in the place of the host's where a near-memory device computes."""
UNBOUNDED = ("no_software",)
"""What is also in other shares: waits for weights hold the time that software takes for a copy."""
HALVED = ("twice_gpu_bandwidth",)
"""What takes half as long at best; waits may vanish."""
SLOTS, MORE = "more_slots", 1.5
FEWER = "fewer_layers"
TITLES = {SLOTS: f"{MORE:g} x expert slots", FEWER: "a third fewer layers on the CPU"}
"""What is changed of the room for experts."""


@dataclass(frozen=True)
class Changed:
    """One thing changed: its ``title``; the run's ``summary`` with it, empty where it was not
    played, and ``why``; ``roomier``: played on a GPU with more memory; ``share`` of the time that
    it shortens (``wanted``), and ``at_most`` how many times as fast the run is by that (None:
    nobody knows).
    """

    title: str
    summary: Mapping[str, Any]
    why: str = ""
    roomier: bool = False
    share: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class WhatIf:
    """A run ``as_is``, replayed for its first ``steps`` (0: not at all), and with each thing
    changed; ``why`` none was played.
    """

    as_is: Mapping[str, Any]
    steps: int
    changed: tuple[Changed, ...]
    why: str = ""


def what_if(folder: Path, summary: Mapping[str, Any], progress: Progress | None = None) -> WhatIf:
    """The run in ``folder``, which ended with ``summary``, with each of what could help changed.

    It is played again from its begin, as long as that takes about a second; where what it read is
    gone, or all would take over 20 s, nothing is. ``progress`` is told of each replay.
    """
    try:
        with read_once(), TemporaryDirectory() as place:
            return _played(folder, summary, Path(place), progress or _untold)
    except InputError as error:
        return _bounds(summary, error.problems[0].what)


def _bounds(summary: Mapping[str, Any], why: str, *, near: bool = False) -> WhatIf:
    """What the records alone say."""
    found = [
        _bounded(Changed(_title(key), {}), key, share, summary)
        for key, share in wanted(summary, near=near)
    ]
    return WhatIf(summary, 0, tuple(found), why)


def _bounded(one: Changed, key: str, share: float, as_is: Mapping[str, Any]) -> Changed:
    """With what the time allows. Requests that come by the clock have no bound: where passes are
    shorter fewer run beside each other, and their answers are not like the mean of all passes.
    """
    if key in UNBOUNDED:
        return one
    saved = share / 2 if key in HALVED else share
    most = None if timed(as_is) else 1 / max(1 - saved, 1e-3)
    return replace(one, share=share, at_most=most)


def wanted(summary: Mapping[str, Any], *, near: bool = False) -> Iterator[tuple[str, float]]:
    """Upgrades of what takes time, and the share of the time that each shortens; of that in passes
    where requests come by the clock, whose answers wait for no pauses between them. ``near``: a
    near-memory device computes what the host would.
    """
    shares = dict(summary.get("time_share") or {})
    idle = shares.pop("idle", 0.0) or 0.0
    if timed(summary) and idle < 1:
        shares = {cause: (share or 0.0) / (1 - idle) for cause, share in shares.items()}
    for key, causes in CAUSES.items():
        share = sum(shares.get(cause) or 0.0 for cause in causes)
        if share > 0:
            yield OF_DEVICE.get(key, key) if near else key, share
    waiting = sum(shares.get(f"waiting_for_{cause}") or 0.0 for cause in ("weights", "cpu"))
    if waiting > 0 and summary.get("misses"):
        slots, local = summary.get("slots_per_layer") or 0, summary.get("local_experts")
        whole = slots in (0, local)  # layers whose experts are all on one side
        if not whole or shares.get("waiting_for_cpu"):
            yield FEWER if whole else SLOTS, waiting


def _title(key: str) -> str:
    return TITLES.get(key) or UPGRADES[key].title


def _untold(_finished: int, _total: int) -> None:
    pass


def _played(folder: Path, summary: Mapping[str, Any], place: Path, progress: Progress) -> WhatIf:
    resolved = with_layers_fitted(resolved_from(rebuild(folder), (), alone=True).experiment)
    update: dict[str, Any] = {"records": "summary", "sweep": None, "figures": [], "engine": "auto"}
    if resolved.workload.batching.serves:  # times by other prices are not shown
        once = {"price_interval": "never"}
        update["serving"] = (resolved.serving or Serving()).model_copy(update=once)
    base, began = resolved.model_copy(update=update), time.process_time()
    near = base.experts.miss.near_memory
    steps = _steps(summary)
    as_is = simulate(base, limit_steps=steps).summary
    if base.workload.batching.serves and steps is not None and not as_is.get("mean_tpot_ms"):
        return _bounds(summary, _unanswered(summary, as_is), near=near)
    keys = [one for one in wanted(as_is, near=near) if one[0] != FEWER or _on_cpu(base)]
    each = time.process_time() - began
    if each * len(keys) > MOST_S:
        why = f"{len(keys)} replays of {each:.0f} s each would take long"
        return _bounds(summary, why, near=near)
    progress(1, len(keys) + 1)
    made = list[Changed]()
    for key, share in keys:
        made.append(_bounded(_changed(base, as_is, key, steps, place), key, share, as_is))
        progress(1 + len(made), len(keys) + 1)
    return WhatIf(as_is, int(as_is.get("steps") or 0), tuple(made))


def _unanswered(summary: Mapping[str, Any], as_is: Mapping[str, Any]) -> str:
    """That the replay, ``as_is``, ends before the first answer, and what to do."""
    done, most = _activations(summary)
    fewer = int(summary.get("requests") or 0) * most // done
    remedy = f"workload.requests of at most {fewer}" if fewer else "shorter prompts and answers"
    return (
        f"no request has its answer in the first {as_is['steps']} passes; with {remedy} all passes"
        " are played"
    )


def _steps(summary: Mapping[str, Any]) -> int | None:
    """How many passes are replayed; None: all."""
    done, most = _activations(summary)
    steps = int(summary.get("steps") or 0)
    return None if done <= most else max(LEAST_STEPS, steps * most // done)


def _activations(summary: Mapping[str, Any]) -> tuple[int, int]:
    """What the run had, and most of a replay. Where all is resident nothing is decided of single
    experts, and ``replay`` takes a layer for what is an expert else.
    """
    missed, late, hits = (summary.get(key) or 0 for key in ("misses", "late", "hits"))
    done, engine = missed + late + hits, str(summary.get("engine"))
    if engine == "replay" and not missed + late:
        done = summary.get("layer_steps") or done
    return done, MOST_ACTIVATIONS.get(engine, MOST_ACTIVATIONS["des"])


def _changed(
    base: Experiment, as_is: Mapping[str, Any], key: str, steps: int | None,
    place: Path,
) -> Changed:  # fmt: skip
    if key in TITLES:
        return _with_room(base, as_is, key, steps, place)
    return _outcome(_title(key), lambda: _upgraded(base, key, place), steps)


def _outcome(title: str, change: Callable[[], Experiment], steps: int | None) -> Changed:
    try:
        found = simulate(change(), limit_steps=steps).summary
    except InputError as error:
        return Changed(title, {}, error.problems[0].what)
    reason = "" if found["status"] == "ok" else str(found.get("reason"))
    return Changed(title, {} if reason else found, reason)


def _with_room(
    base: Experiment, as_is: Mapping[str, Any], key: str, steps: int | None,
    place: Path,
) -> Changed:  # fmt: skip
    """More room for experts: on this GPU where it has it, if need be with fewer keys and values;
    else on one whose memory is twice as large, with as many keys and values as before.
    """

    def wider(base: Experiment) -> Experiment:
        return _with_slots(base, as_is) if key == SLOTS else _with_fewer(base)

    found = _outcome(_title(key), lambda: wider(base), steps)
    if found.summary and found.summary.get("rejected") == as_is.get("rejected"):
        return found
    roomy = _outcome(_title(key), lambda: wider(_roomy(base, as_is, place)), steps)
    return replace(roomy, roomier=True)


def _roomy(base: Experiment, as_is: Mapping[str, Any], place: Path) -> Experiment:
    """``base`` on a GPU with twice the memory, of which keys and values take no more."""
    roomy, blocks = _upgraded(base, "memory_x2", place), as_is.get("kv_blocks")
    left = (base.memory or Memory()).kv.is_left
    if not blocks or not left or not (base.serving or Serving()).alone:
        return roomy
    return with_settings(roomy, {"memory.kv": f"{blocks} blocks"})


def _upgraded(base: Experiment, key: str, place: Path) -> Experiment:
    """``base`` with one part changed."""
    upgrade = UPGRADES[key]
    if upgrade.software is not None:
        return base.model_copy(update={"software": write_software(place, base, upgrade)})
    hardware = load_hardware(base.hardware, base.folders)
    return base.model_copy(update={"hardware": write_upgrade(place, base, hardware, upgrade)})


def _with_slots(base: Experiment, as_is: Mapping[str, Any]) -> Experiment:
    """``base`` with more slots a layer."""
    slots, local = int(as_is["slots_per_layer"]), int(as_is["local_experts"])
    wider = min(local, max(slots + 1, round(MORE * slots)))
    return with_settings(base, {"experts.capacity": f"{wider} slots/layer"})


def _with_fewer(base: Experiment) -> Experiment:
    """``base`` with the last third of the layers on its CPU on its GPU."""
    if base.host_layers:
        return base.model_copy(update={"host_layers": base.host_layers * 2 // 3})
    layers = _on_cpu(base)
    kept = OnCpu(layers=tuple(layers[: len(layers) * 2 // 3]) or 0)
    return base.model_copy(update={"experts": base.experts.model_copy(update={"on_cpu": kept})})


def _on_cpu(base: Experiment) -> list[int]:
    """The layers whose experts its CPU computes, whatever is in slots."""
    if base.host_layers:
        return list(range(base.host_layers))
    model: ModelSpec = needed("model", base.model, base.folders)
    flags = base.experts.on_cpu.of(model)
    return [one.index for one, host in zip(model.moe_layers, flags, strict=True) if host]
