"""What the records of a run take in memory, said before it starts."""

from __future__ import annotations

from collections.abc import Iterable

from moesim.config.errors import InputError, Problem
from moesim.config.sizes import GIB
from moesim.engine.case import Case
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.runtime.memory import available_bytes
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

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
    """A line for every kind of records that takes more than 1 GiB in one of ``experiments``."""
    largest: dict[str, int] = {}
    seen: set[tuple[object, ...]] = set()
    for one in experiments:
        key = (one.trace, repr(one.workload), one.parallelism.expert, one.records)
        if key not in seen and one.records in ("layer", "expert"):
            largest[one.records] = max(largest.get(one.records, 0), _bytes_of(one))
        seen.add(key)
    return [
        f"warning: records: {_told(records, size)}; {REMEDY}"
        for records, size in largest.items()
        if size > WORTH_SAYING
    ]


REMEDY = "records: step or summary keep far less, without the figures of layers"


def _bytes_of(one: Experiment) -> int:
    """As ``record_bytes``; a schedule is made only where each token alone would be worth saying."""
    trace, gpus = trace_of(one), one.parallelism.expert
    experts = trace.experts * (1 if one.parallelism.experts == "expert" else gpus)
    choices = trace.tokens * trace.moe_layers * trace.top_k
    most = record_bytes(one.records, trace.tokens, trace.moe_layers, gpus, choices, experts)
    if most <= WORTH_SAYING:
        return most
    requests = Requests.of(trace, one.workload.phase, one.workload.requests)
    seats = one.workload.batching.seats(requests)
    schedule = Schedule.of(requests, seats, trace, gpus, one.workload.prefill.chunk)
    choices = len(schedule.rows) * trace.moe_layers * trace.top_k
    return record_bytes(one.records, schedule.passes, trace.moe_layers, gpus, choices, experts)


def _told(records: str, size: int) -> str:
    return f"'{records}' takes about {_gib(size)} of memory for its tables"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
