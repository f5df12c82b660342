"""What the records of a run take in memory, said before it starts."""

from __future__ import annotations

from collections.abc import Iterable

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.engine.case import Case
from moesim.experiment.building.serving import load_of
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.traces import model_of, trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.runtime.memory import available_bytes
from moesim.trace import RoutingTrace
from moesim.workload.batching.continuous import Continuous
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.requests.requests import times_and_lengths
from moesim.workload.serving.state import NEVER

LAYER_BYTES, SPAN_BYTES = 270, 600
"""At the peak, for a row of the layers and an activation of the spans: measured over 974,784 and
3.9 M of them (gpt-oss-20b, 24 layers, one GPU).
"""
WORTH_SAYING = GIB


def record_bytes(
    records: str, passes: int, layers: int, gpus: int, choices: int, experts: int
) -> int:
    """What the tables of ``records`` take beyond those of the steps.

    ``choices`` of experts in all layers: as many activations there can be, of no more than all
    ``experts`` of a layer on all GPUs in each pass.
    """
    of_layers = passes * layers * gpus * LAYER_BYTES if records in ("layer", "expert") else 0
    activations = min(choices, passes * layers * experts)
    return of_layers + (activations * SPAN_BYTES if records == "expert" else 0)


def refuse_too_many_records(experiment: Experiment, case: Case) -> None:
    """An InputError where the records of ``case`` take more memory than there is."""
    schedule, layers = case.schedule, len(case.model.moe_layers)
    choices = len(schedule.rows) * layers * case.trace.top_k
    experts = sum(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    size = record_bytes(experiment.records, schedule.passes, layers, case.gpus, choices, experts)
    if size > WORTH_SAYING and size > (there := available_bytes()):
        what = f"{_told(experiment.records, size)}, and {_gib(there)} are free; {REMEDY}"
        raise InputError([Problem("", "records", what)])


def large_records(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every kind of records that takes, or may take, more than 1 GiB in one of
    ``experiments``.
    """
    largest: dict[str, tuple[int, bool]] = {}
    seen: set[tuple[object, ...]] = set()
    for one in experiments:
        parts = repr((one.workload, one.serving, one.parallelism, one.hardware, one.seed))
        key = (one.trace, one.model, parts, one.records)
        if key not in seen and one.records in ("layer", "expert"):
            size = (_bytes_of(one), one.workload.batching.serves and one.workload.arrivals.timed)
            largest[one.records] = max(largest.get(one.records, (0, False)), size)
        seen.add(key)
    return [
        f"warning: records: {_told(records, size, timed=timed)}; {REMEDY}"
        for records, (size, timed) in largest.items()
        if size > WORTH_SAYING
    ]


REMEDY = "records: step or summary keep far less, without the figures of layers"


def _bytes_of(one: Experiment) -> int:
    """As ``record_bytes``; a schedule is made only where each token alone would be worth saying."""
    trace, gpus = trace_of(one), one.parallelism.expert
    experts = trace.experts * (1 if one.parallelism.experts == "expert" else gpus)
    if isinstance(batching := one.workload.batching, Continuous):
        passes, tokens = _served(one, batching.scheduler, trace)
        choices = tokens * trace.moe_layers * trace.top_k
        return record_bytes(one.records, passes, trace.moe_layers, gpus, choices, experts)
    choices = trace.tokens * trace.moe_layers * trace.top_k
    most = record_bytes(one.records, trace.tokens, trace.moe_layers, gpus, choices, experts)
    if most <= WORTH_SAYING:
        return most
    requests = Requests.of(trace, one.workload.phase, one.workload.requests)
    seats = one.workload.batching.seats(requests)
    schedule = Schedule.of(requests, seats, trace, gpus, one.workload.prefill.chunk)
    choices = len(schedule.rows) * trace.moe_layers * trace.top_k
    return record_bytes(one.records, schedule.passes, trace.moe_layers, gpus, choices, experts)


def _served(one: Experiment, scheduler: RequestScheduler, trace: RoutingTrace) -> tuple[int, int]:
    """About how many passes serve the requests of ``one``, and tokens in them; none where a run
    refuses the requests.

    As few as the requests in flight allow, and where they come by the clock as many more as the
    fastest have room for until the last one comes: never more than tokens are answered, but for
    pieces of prompts.
    """
    try:
        arrival_ns, (inputs, outputs) = times_and_lengths(load_of(one), trace)
    except InputError:
        return 0, 0
    prompts = int(inputs.sum()) if one.workload.phase == "all" else 0
    gpus, replicas = one.parallelism.expert, one.serving.replicas if one.serving else 1
    clients = min(one.workload.arrivals.concurrency or len(outputs), len(outputs))
    together = min(-(-clients // replicas), scheduler.max_num_seqs * gpus)
    alone = int(outputs.sum())
    passes = max(-(-alone // together), int(outputs.max()))
    if one.workload.arrivals.timed:
        follow = bool((arrival_ns == NEVER).any())
        most = (int(arrival_ns.max()) - int(arrival_ns.min())) / _fastest_ns(one) * replicas
        passes = alone if follow else min(alone, passes + round(most))
    pieces = prompts // (scheduler.most_tokens * gpus) if scheduler.most_tokens else 0
    return passes + pieces, alone + prompts


def _fastest_ns(one: Experiment) -> float:
    """What a pass takes at least: weights of one token, read at the datasheet's bandwidth; GPUs
    that hold layers each have as many passes at once.
    """
    model = model_of(one)
    hardware = needed("hardware", one.hardware, one.folders)
    size = model.bytes * model.active_parameters / model.parameters
    gpus = one.parallelism.expert * one.parallelism.pipeline
    rate = hardware.datasheet.memory_bandwidth.value * gpus
    return float(max(1.0, size / rate * 1e9))


def _told(records: str, size: int, *, timed: bool = False) -> str:
    takes = f"'{records}' takes {'up to ' * timed}about {_gib(size)} of memory for its tables"
    return takes + ", if few requests are answered at once" * timed


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
