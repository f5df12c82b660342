"""Run an experiment: resolve, simulate, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from moesim.config.arguments import check_choice, check_out, check_whole
from moesim.config.counted import counted
from moesim.config.files.inputs import Inputs, check_same, paths_of
from moesim.engine.case import NO_PREFETCH, Case
from moesim.engine.marks import is_marked
from moesim.engine.outcome import Outcome
from moesim.experiment.building.build import with_layers_fitted
from moesim.experiment.building.built import Built
from moesim.experiment.building.formats import format_notes
from moesim.experiment.loading.inputs import inputs_of
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.quality import quality_of
from moesim.experiment.loading.resolve import Resolved, Source, resolved_from
from moesim.experiment.running.cache import cache_folder, reused_or
from moesim.experiment.running.engines import Engine, engine_of, ready
from moesim.experiment.running.full_host import full_host_notes
from moesim.experiment.running.record_memory import refuse_too_many_records
from moesim.experiment.running.replicas import outcome_of
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.choice import gpu_and_host
from moesim.hardware.described.near_memory import near_note
from moesim.hardware.described.price_list import PriceList, priced
from moesim.hardware.operations.copies.storage_read import fault_notes
from moesim.hardware.operations.experts.error import price_error
from moesim.hardware.operations.kernels.cpu_expert import (
    assumed_host_notes,
    host_notes,
    node_notes,
)
from moesim.metrics.energy import GOOD_COST, Bill
from moesim.metrics.fates import fate_keys
from moesim.metrics.marks import MARK_KEYS
from moesim.metrics.misses import form_keys, skipped_keys
from moesim.metrics.prefetch import PREFETCH_KEYS, stall_hidden
from moesim.metrics.rebalance import rebalance_keys
from moesim.metrics.roles import role_keys, role_numbers
from moesim.metrics.served import served_keys
from moesim.metrics.service_level import NO_SERVICE
from moesim.metrics.speculation import SPECULATION_KEYS
from moesim.metrics.storage import STORAGE_KEYS
from moesim.results import Result, provenance, write_result
from moesim.results.overwrite import check_folder, check_no_input
from moesim.runtime.raised import compiled_exceptions
from moesim.workload.serving.run import Serving
from moesim.workload.serving.stepping.foreseen import Watch

if TYPE_CHECKING:
    import pandas as pd

    from moesim.engine.progress import Progress
    from moesim.engine.replay.log import DecisionLog
    from moesim.metrics.served import ServedRun


@read_once()
def run(
    experiment: Source | Resolved,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    check: bool = False,
    overrides: Sequence[str] = (),
    records: str | None = None,
    limit_steps: int | None = None,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Simulate ``experiment``, a file, a dictionary, an ``Experiment`` or what ``load_experiment``
    returned (its base point, where it has a sweep), with ``overrides`` as ``--set`` takes them.

    ``out``: a new or empty folder for the result (``overwrite``: or one that holds a run, replaced
    once the new result is there); ``check``: verify the engine's invariants;
    ``records``: instead of the experiment's; ``limit_steps``: only the first forward passes;
    ``cache``: a folder of results that are used again where nothing that decides them has changed
    (not with ``check`` or ``limit_steps``); ``progress`` is called with (finished, total), of
    passes or of requests that are served. A run that does not fit in memory is a result
    (``status`` out_of_memory), not an exception. Raises an InputError for bad input.

    >>> moesim.run("experiments/quickstart.yaml", overrides=["experts.policy.kind=lfu"])
    """
    check_out(out)
    if limit_steps is not None:
        check_whole("limit_steps", limit_steps)
    if records is not None:
        check_choice("records", records, get_args(Experiment.model_fields["records"].annotation))
    if out is not None:
        check_folder(Path(out), overwrite=overwrite)
    resolved = _resolved(experiment, overrides)
    if records is not None:
        resolved = resolved.model_copy(update={"records": records})
    if out is not None and overwrite and Path(out).exists():
        check_no_input(Path(out), [*_files(experiment), *paths_of(inputs_of([resolved]))])
    fresh = cache is None or check or limit_steps is not None
    if fresh or (kept := cache_folder(str(cache))) is None:
        result = simulate(resolved, check=check, limit_steps=limit_steps, progress=progress)
    else:
        result = reused_or(partial(simulate, progress=progress), resolved, kept)
    if out is not None:
        write_result(result, out, overwrite=overwrite)
    return result


def _resolved(source: Source | Resolved, overrides: Sequence[str]) -> Experiment:
    if isinstance(source, Experiment) and not overrides:
        return source
    return resolved_from(source, overrides, alone=True).experiment


def _files(source: Source | Resolved) -> list[Path]:
    """The experiment's own file, where it has one."""
    file = source.file if isinstance(source, Resolved) else source
    return [Path(file)] if isinstance(file, str | Path) else []


def simulate(
    experiment: Experiment,
    *,
    check: bool = False,
    limit_steps: int | None = None,
    log: DecisionLog | None = None,
    inputs: Inputs | None = None,
    watch: Callable[[Serving], Watch] | None = None,
    progress: Progress | None = None,
) -> Result:
    """The result of ``experiment``, in memory; ``log``: what runs on the same trace share;
    ``watch`` makes what sees the steps of one engine that serves requests end, as the clock goes;
    ``progress`` is told how far the engine is, or several are together.

    A ChangedError where it reads anything but ``inputs`` (None: whatever there is).
    """
    asked, experiment = experiment, with_layers_fitted(experiment)
    built, engine = ready(experiment, limit_steps, check=check)
    if inputs is not None:
        check_same(inputs, built.inputs)
    if watch is not None and built.case.serving is not None:
        built.case.serving.watched(watch)
    if (reason := built.out_of_memory) is not None:
        reason += _left_to_cpu(experiment, built) if asked.experts.on_cpu.fitted else ""
        return _as_asked(_does_not_fit(experiment, built, engine, reason), asked)
    refuse_too_many_records(experiment, built.case)
    case = built.case
    with compiled_exceptions({"experts.policy": case.policy, "experts.miss": case.miss}):
        serving = case.serving
        alone = serving is None or serving.routed is None
        play = partial(engine.play, check=check, log=log, progress=progress if alone else None)
        of_all = None if alone else progress
        return _as_asked(_played(experiment, built, play, engine, of_all), asked)


def _as_asked(result: Result, asked: Experiment) -> Result:
    """The ``result`` of what was made of the experiment that was ``asked``."""
    fitted = {"layers_on_cpu_auto": True} if asked.experts.on_cpu.fitted else {}
    return replace(result, experiment=asked, summary=result.summary | fitted)


def _played(
    experiment: Experiment,
    built: Built,
    play: Callable[..., Outcome],
    engine: Engine,
    progress: Progress | None,
) -> Result:
    from moesim.experiment.running.price_ranges import Played, again_of, price_ranges
    from moesim.metrics.block_sums import blocks_of, cuts_of
    from moesim.metrics.intervals import intervals
    from moesim.metrics.served import ServedRun
    from moesim.metrics.summary import summary
    from moesim.metrics.tables import memory_table, requests_table

    by_pass = experiment.records != "summary"
    bill, cuts = bill_of(experiment, built), None
    if not (by_pass or bill.keys):
        cuts = cuts_of(built.case, experiment.warm_up)
    begun, told = built, experiment.records
    if told in ("summary", "step") and bill.by_layer(built.case):
        told = "layer"
    built, case, outcome, fullest = outcome_of(
        built, partial(play, records=told, cuts=cuts), progress
    )
    numbers = summary(case, outcome, experiment.warm_up, bill)
    service = experiment.serving or NO_SERVICE
    run = None if case.serving is None else ServedRun.of(case, outcome, service)
    numbers |= {} if run is None else run.numbers() | role_numbers(case, outcome)
    numbers |= {} if run is None else bill.of_good(numbers, run.good_tokens())
    numbers |= stall_hidden(case, outcome, _without_prefetch(experiment, case))
    numbers |= quality_of(built.quality, numbers | built.routing)
    blocks = blocks_of(case, outcome)
    numbers["intervals"] = intervals(blocks)
    again = again_of(experiment, begun, partial(_alone, experiment))
    played = Played(begun if again else built, outcome, numbers, run, again)
    numbers["price_interval"] = price_ranges(experiment, played)
    tables: dict[str, Any] = {
        "blocks": blocks.sums,
        "requests": requests_table(case, outcome, run, built.lost_by_token),
        "memory": memory_table(built.footprint, fullest, built.limit_bytes),
        **_records(experiment.records, case, outcome, run),
    }
    digests = {} if run is None else {"schedule_digests": run.digests()}
    checks = {"checks": {**outcome.checks, **digests}} if outcome.checks else {}
    rests_on = _price_provenance(experiment, built, engine)
    return Result(
        {**_head(experiment), **numbers, **_memory(experiment, built), **rests_on, **checks},
        experiment,
        provenance(built.inputs, seed=experiment.seed),
        **tables,
    )


def _records(
    records: str, case: Case, outcome: Outcome, run: ServedRun | None
) -> dict[str, pd.DataFrame]:
    """The tables that ``records`` asks for."""
    from moesim.metrics import tables as of

    tables = {}
    if records != "summary":
        tables["steps"] = of.steps_table(case, outcome, run)
        tables["operations"] = of.operations_table(outcome)
    if records in ("layer", "expert"):
        tables["layers"] = of.layers_table(case, outcome)
        if run is not None:
            tables["itl"] = of.itl_table(run)
            tables["entries"] = of.entries_table(run, case.schedule.passes)
    if records == "expert":
        tables |= {"spans": of.spans_table(outcome), "slots": of.slots_table(outcome)}
    return tables


def _head(experiment: Experiment) -> dict[str, Any]:
    return {"name": experiment.name, "status": "ok", "reason": None}


def bill_of(experiment: Experiment, built: Built) -> Bill:
    """What makes the numbers of energy and cost that ``experiment`` asks for."""
    cost = experiment.cost and _prices_of(experiment.cost, experiment.hardware)
    return Bill(built.hardware, experiment.energy, cost)


def _prices_of(cost: PriceList, hardware: str) -> PriceList:
    """Those of a machine. A rent out of lists that also have what is bought is a GPU's with its
    share of all else: that host and electricity are of the others.
    """
    gpu, host = gpu_and_host(hardware)
    found = cost.of(gpu, host)
    if cost.prices and priced(gpu, cost.rents) is not None:
        return found.model_copy(update=dict.fromkeys(("host", "electricity")))
    return found


def _cost_notes(experiment: Experiment, built: Built) -> dict[str, list[str]]:
    """What lists by name may be misread in, or leave out: they are of one GPU, also where they name
    a machine, and a host that no name asks a price of is free.
    """
    gpus = built.case.gpus * max(len(built.case.stages), 1)
    if (cost := experiment.cost) is None or not (cost.rents or cost.prices):
        return {}
    found, notes = _prices_of(cost, experiment.hardware), []
    if gpus > 1:
        rented = found.gpu is not None
        each = f"rent {found.gpu:g} $/h" if rented else f"card {found.card or 0:g} $"
        notes.append(f"{each} for each of {gpus} GPUs, also where the list names a machine")
    if found.card is not None and found.host is None:
        notes.append("host: nothing, as none is named; write cost.host, or name it in hardware")
    return {"cost_notes": notes} if notes else {}


def _sells_good_tokens(experiment: Experiment) -> bool:
    """Whether requests are promised something, and somebody pays."""
    promised = experiment.serving is not None and experiment.serving.limits_ms
    return bool(promised and experiment.cost and experiment.workload.batching.serves)


def _speculation_notes(experiment: Experiment) -> dict[str, list[str]]:
    """What the numbers of a run that verifies drafts rest on."""
    asked = experiment.workload.speculative
    return {"speculation_notes": asked.notes()} if asked is not None and asked.drafts else {}


def _alone(experiment: Experiment, case: Case) -> Outcome:
    """``case`` on the fastest engine, with no more than the numbers of a summary."""
    return _fastest(experiment, case).play(case, records="summary", check=False)


def _fastest(experiment: Experiment, case: Case) -> Engine:
    """The engine of a run of ``case`` that keeps a summary, whatever ``experiment`` keeps."""
    few = {"engine": "auto", "records": "summary"}
    return engine_of(experiment.model_copy(update=few), case, check=False)


def _without_prefetch(experiment: Experiment, case: Case) -> Outcome | None:
    """The same run without its prefetches, if it has any, for comparison."""
    served = case.serving
    if served is not None and served.routed is not None:  # of all replicas, with the slots of one
        return None
    if not case.prefetches:
        return None
    alone = replace(case, prefetch=NO_PREFETCH)
    cuts = np.zeros(1, np.int64)
    return _fastest(experiment, alone).play(alone, records="summary", check=False, cuts=cuts)


def _clock_keys(case: Case) -> tuple[str, ...]:
    """What the clock says of a run of ``case``."""
    forms, storage = case.forms, () if case.host_cache is None else STORAGE_KEYS
    served = () if case.serving is None else served_keys()
    speculation = SPECULATION_KEYS if case.verifies else ()
    return (
        "duration_ms", "output_throughput", "total_token_throughput", "mean_ttft_ms", "p50_ttft_ms",
        "p99_ttft_ms", "mean_tpot_ms", "p50_tpot_ms", "p99_tpot_ms",
        "hits", "late", "misses", *form_keys(forms),
        "hit_ratio_per_expert", "hit_ratio_per_access", "bytes_h2d",
        *(MARK_KEYS if is_marked(case) else ()), "stall_ms", "barrier_ms", "cpu_wait_ms",
        *storage, *speculation, *served, *role_keys(case), *PREFETCH_KEYS, "dropped_choices",
        "dropped_share", "dropped_gate_weight_share", *skipped_keys(forms), "padding_ratio",
        "waste_factor", *rebalance_keys(case), "max_load", "average_max_load", "balancedness",
        "time_share", "price_share",
        *fate_keys(case), "after_warm_up",
        "engine_wall_s", "intervals", "price_interval",
    )  # fmt: skip


def _does_not_fit(experiment: Experiment, built: Built, engine: Engine, reason: str) -> Result:
    from moesim.metrics.tables import memory_table

    schedule = built.case.schedule
    numbers = {
        "name": experiment.name,
        "status": "out_of_memory",
        "reason": reason,
        "engine": engine.name,
        "tokens": int(schedule.output_tokens().sum()),
        "steps": schedule.passes,
        "layer_steps": None,
        **dict.fromkeys(_clock_keys(built.case)),
        **dict.fromkeys(bill_of(experiment, built).keys),
        **({GOOD_COST: None} if _sells_good_tokens(experiment) else {}),
        **({"quality": None} if built.quality is not None else {}),
    }
    memory = memory_table(built.footprint, None, built.limit_bytes)
    return Result(
        {
            **numbers,
            **_memory(experiment, built),
            **_price_provenance(experiment, built, engine),
        },
        experiment,
        provenance(built.inputs, seed=experiment.seed),
        memory=memory,
    )


def _left_to_cpu(experiment: Experiment, built: Built) -> str:
    """What ``experts.on_cpu.layers: auto`` took of a run that does not fit, behind its reason."""
    model, said = built.case.model, "; experts.on_cpu.layers: auto"
    if built.hardware.unified:
        return f"{said} took 0, as CPU and GPU share this memory"
    layers = (
        f"{sum(experiment.experts.on_cpu.of(model))} of {counted(len(model.moe_layers), 'layer')}"
    )
    if built.footprint.total.max() > built.limit_bytes:
        return f"{said} left the experts of {layers} to the CPU, and all else does not fit"
    return f"{said} left those of {layers} to the CPU, the fewest with which the GPUs hold the rest"


def _memory(experiment: Experiment, built: Built) -> dict[str, Any]:
    parts, model = built.footprint.at_peak(), built.case.model
    return {
        "peak_memory_bytes": sum(parts.values()),
        "memory_bytes": parts,
        "memory_capacity_bytes": built.limit_bytes,
        "host_memory_bytes": built.footprint.host,
        "pinned_memory_bytes": built.footprint.pinned_bytes,
        "host_memory_capacity_bytes": built.hardware.host_memory_bytes,
        "layers_on_cpu": sum(experiment.experts.on_cpu.of(model)),
        "moe_layers": len(model.moe_layers),
        "slots_per_layer": min(built.slots_per_layer),
        "slots_by_layer": built.slots_by_layer,
        "local_experts": min(residence.local for residence in built.residences),
        **({"stages": built.stages} if built.case.stages else {}),
    }


def _maps(experiment: Experiment, built: Built) -> bool:
    """Whether the software maps its file, and nothing else is written."""
    return experiment.experts.host.path == "auto" and built.case.software.mapped


def _price_provenance(experiment: Experiment, built: Built, engine: Engine) -> dict[str, Any]:
    """What of the model is not priced as it is, what of the host is assumed, how wrong prices
    like these have been, why this engine ran, what was captured, and how a drive is read.
    """
    serial = built.case.kernels == "serial"
    error = price_error(
        built.hardware, built.case.model, serial=serial,
        framework=built.case.software.framework, gpu=gpu_and_host(experiment.hardware)[0],
    )  # fmt: skip
    notes = [*built.case.model.notes, *format_notes(built.case)]
    hosts = built.case.miss.uses_host and built.case.offloaded
    top_k, cache = built.case.trace.top_k, built.case.host_cache
    assumed = assumed_host_notes(built.hardware) if built.case.offloaded else []
    if built.near_memory_bytes:
        assumed.append(near_note(built.near_memory_bytes))
    else:
        assumed += host_notes(built.hardware, experiment.trace, top_k) if hosts else []
        alone = hosts and built.case.gpus == 1
        assumed += node_notes(built.hardware.host) if alone else []
        assumed += full_host_notes(built)
    faults = cache and (cache.mapped or _maps(experiment, built))
    assumed += fault_notes(built.hardware) if faults else []
    return {
        **({"model_notes": notes} if notes else {}),
        **built.routing,
        **({"host_notes": assumed} if assumed else {}),
        **bill_of(experiment, built).notes(built.case),
        **_cost_notes(experiment, built),
        **_speculation_notes(experiment),
        "price_error": error._asdict(),
        "engine_reason": engine.reason,
        "execution": built.case.executes_decode,
        **({"storage_path": "mmap" if cache.mapped else "direct"} if cache else {}),
    }
