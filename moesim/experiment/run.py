"""Run an experiment: resolve, simulate, measure, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moesim.config.paths import find, look_up
from moesim.experiment.build import Built, build
from moesim.experiment.resolve import Source, load_experiment
from moesim.experiment.schema import Experiment
from moesim.hardware.price_error import price_error
from moesim.results import Result, check_new_folder, provenance, write_result


def run(
    experiment: Source,
    *,
    out: Path | str | None = None,
    check: bool = False,
    overrides: Sequence[str] = (),
    records: str | None = None,
    limit_steps: int | None = None,
) -> Result:
    """Simulate ``experiment`` (its base point, where it has a sweep).

    ``out``: a new or empty folder for the result; ``check``: verify the engine's invariants;
    ``records``: instead of the experiment's; ``limit_steps``: only the first forward passes. A run
    that does not fit in memory is a result (``status`` out_of_memory), not an exception. Raises
    InputError for bad input.
    """
    if out is not None:
        check_new_folder(Path(out))
    resolved = _resolved(experiment, overrides)
    if records is not None:
        resolved = resolved.model_copy(update={"records": records})
    result = simulate(resolved, check=check, limit_steps=limit_steps)
    if out is not None:
        write_result(result, out)
    return result


def _resolved(source: Source, overrides: Sequence[str]) -> Experiment:
    if isinstance(source, Experiment) and not overrides:
        return source
    return load_experiment(source, overrides).experiment


def simulate(
    experiment: Experiment, *, check: bool = False, limit_steps: int | None = None
) -> Result:
    """The result of ``experiment``, in memory."""
    built = build(experiment, limit_steps)
    if (reason := built.out_of_memory) is not None:
        return _does_not_fit(experiment, built, reason)
    return _played(experiment, built, check=check)


def _played(experiment: Experiment, built: Built, *, check: bool) -> Result:
    from moesim.engine.des.run import run_des
    from moesim.metrics.summary import summary
    from moesim.metrics.tables import (
        layers_table,
        memory_table,
        requests_table,
        spans_table,
        steps_table,
    )

    case = built.case
    outcome = run_des(case, records=experiment.records, check=check)
    built.footprint.in_flight(outcome.counts.copies, case.model)
    numbers = summary(case, outcome, experiment.warm_up)
    tables: dict[str, Any] = {
        "requests": requests_table(case, outcome),
        "memory": memory_table(built.footprint, outcome, built.limit_bytes),
    }
    if experiment.records != "summary":
        tables["steps"] = steps_table(case, outcome)
    if experiment.records in ("layer", "expert"):
        tables["layers"] = layers_table(outcome)
    if experiment.records == "expert":
        tables["spans"] = spans_table(outcome)
    head = {"name": experiment.name, "status": "ok", "reason": None}
    checks = {"checks": outcome.checks} if outcome.checks else {}
    return Result(
        {**head, **numbers, **_memory(built), **_basis(built), **checks},
        experiment,
        _provenance(experiment),
        **tables,
    )


CLOCK_KEYS = (
    "duration_ms", "output_throughput", "total_token_throughput", "mean_ttft_ms", "p50_ttft_ms",
    "p99_ttft_ms", "mean_tpot_ms", "p50_tpot_ms", "p99_tpot_ms",
    "hits", "late", "misses", "misses_on_cpu", "misses_zero_copy",
    "hit_ratio_per_expert", "hit_ratio_per_access", "bytes_h2d", "stall_ms", "barrier_ms",
    "cpu_wait_ms", "dropped_tokens", "padding_ratio", "balancedness", "time_share", "price_share",
    "after_warm_up", "engine_wall_s",
)  # fmt: skip


def _does_not_fit(experiment: Experiment, built: Built, reason: str) -> Result:
    from moesim.metrics.tables import memory_table

    schedule = built.case.schedule
    numbers = {
        "name": experiment.name,
        "status": "out_of_memory",
        "reason": reason,
        "engine": "des",
        "tokens": len(schedule.rows),
        "steps": schedule.passes,
        "layer_steps": None,
        **dict.fromkeys(CLOCK_KEYS),
    }
    memory = memory_table(built.footprint, None, built.limit_bytes)
    return Result(
        {**numbers, **_memory(built), **_basis(built)},
        experiment,
        _provenance(experiment),
        memory=memory,
    )


def _memory(built: Built) -> dict[str, Any]:
    parts = built.footprint.at_peak()
    return {
        "peak_memory_bytes": sum(parts.values()),
        "memory_bytes": parts,
        "memory_capacity_bytes": built.limit_bytes,
        "host_memory_bytes": built.footprint.host,
        "pinned_memory_bytes": built.footprint.pinned_bytes,
        "host_memory_capacity_bytes": built.hardware.host_memory_bytes,
        "slots_per_layer": min(built.slots_per_layer),
        "slots_by_layer": built.slots_by_layer,
        "local_experts": min(residence.local for residence in built.residences),
    }


def _basis(built: Built) -> dict[str, Any]:
    """How wrong prices like these have been, and why this engine ran."""
    serial = built.case.kernels == "serial"
    error = price_error(built.hardware, built.case.model, serial=serial)
    reason = "copies share a link" if built.case.links is not None else "the only engine so far"
    return {"price_error": error._asdict(), "engine_reason": reason}


def _provenance(experiment: Experiment) -> dict[str, Any]:
    inputs = {"trace": find(experiment.trace, experiment.folders)}
    for key in ("model", "hardware", "software"):
        path = look_up(str(getattr(experiment, key)), experiment.folders)
        if path is not None and path.is_file():
            inputs[key] = path
    return provenance(inputs, seed=experiment.seed)
