"""What the records of runs may take in memory, said where it is much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from moesim.config.errors import InputError
from moesim.experiment.building.of_card import of_card
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.requests import load_of
from moesim.experiment.loading.traces import model_of, trace_of
from moesim.experiment.running.record_memory import REMEDY, WORTH_SAYING, record_bytes, told
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.host.on_cpu import OnCpu
from moesim.trace import RoutingTrace
from moesim.workload.batching.continuous import Continuous
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.requests.requests import times_and_lengths
from moesim.workload.serving.state import NEVER

FIRST_STEPS, LEAST_STEPS = 512, 8
"""Played to see how long a step takes where requests come by the clock."""


def large_records(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every kind of records that takes, or may take, more than 1 GiB in one of
    ``experiments``.
    """
    largest: dict[str, tuple[int, Experiment]] = {}
    seen: set[tuple[object, ...]] = set()
    for one in experiments:
        parts = repr((one.workload, one.serving, one.parallelism, one.hardware, one.seed))
        key = (one.trace, one.model, parts, one.records)
        if key not in seen and one.records in ("layer", "expert"):
            before, size = largest.get(one.records, (0, one)), (_bytes_of(one), one)
            largest[one.records] = max(before, size, key=lambda found: found[0])
        seen.add(key)
    lines = (_line(*found) for found in largest.values())
    return [line for line in lines if line]


def _line(most: int, one: Experiment) -> str:
    """Of the experiment that may keep ``most``; "" where that is little, or it keeps little."""
    begun = _begun(one) if most > WORTH_SAYING else None
    size = most if begun is None else min(most, _bytes_of(one, begun))
    timed = one.workload.batching.serves and one.workload.arrivals.timed and begun is None
    line = told(one.records, size, timed=timed)
    return f"warning: records: {line}; {REMEDY}" if size > WORTH_SAYING else ""


class Begun(NamedTuple):
    """Of a run's first steps: ns from one to the next in their later half, how many experts miss in
    one of these, and the room for keys and values, in tokens of a rank.
    """

    step_ns: float
    misses: float
    kv_tokens: int


def _begun(one: Experiment) -> Begun | None:
    """How the run begins where requests come by the clock; None where they do not, where they
    follow one another, and where several engines share them.
    """
    from moesim.experiment.running.run import simulate  # check loads it only for this

    workload = one.workload
    alone = one.serving is None or one.serving.alone
    if not (workload.batching.serves and workload.arrivals.timed and alone):
        return None
    few: dict[str, Any] = {
        "records": "step",
        "figures": [],
        "sweep": None,
        "energy": None,
        "cost": None,
    }
    try:
        if (times_and_lengths(load_of(one), trace_of(one))[0] == NEVER).any():
            return None
        result = simulate(one.model_copy(update=few), limit_steps=FIRST_STEPS)
    except InputError:  # said when it runs
        return None
    if result.steps is None or len(result.steps) < LEAST_STEPS:
        return None
    later = result.steps.iloc[len(result.steps) // 2 :]
    ends = later["end_ns"].to_numpy()
    step_ns = float((ends[-1] - ends[0]) / (len(ends) - 1))
    return Begun(step_ns, float(later["misses"].mean()), result.summary["kv_tokens"])


def _bytes_of(one: Experiment, begun: Begun | None = None) -> int:
    """As ``record_bytes``; a schedule is made only where each token alone would be worth saying.
    ``begun``: how the run begins; None: as fast as the hardware allows, with room for all.
    """
    trace, gpus = trace_of(one), one.parallelism.expert
    experts = trace.experts * one.parallelism.slices
    grouped, room = one.experts.kernels == "grouped", one.experts
    there = room.capacity.kind == "all" and room.on_cpu == OnCpu() and not one.host_layers

    def size(passes: int, tokens: int, misses: float | None = None) -> int:
        rows, choices = passes * trace.moe_layers, tokens * trace.moe_layers * trace.top_k
        missing = 0.0 if there else None if misses is None else passes * misses
        most = rows * gpus, min(choices, rows * experts)
        return record_bytes(one.records, *most, missing if grouped else None)

    if isinstance(batching := of_card(one).workload.batching, Continuous):
        passes, tokens = _served(one, batching.scheduler, trace, begun)
        return size(passes, tokens, None if begun is None else begun.misses)
    most = size(trace.tokens, trace.tokens)
    if most <= WORTH_SAYING:
        return most
    requests = Requests.of(trace, one.workload.phase, one.workload.requests)
    seats = one.workload.batching.seats(requests)
    schedule = Schedule.of(requests, seats, trace, gpus, one.workload.prefill.chunk)
    return size(schedule.passes, len(schedule.rows))


def _served(
    one: Experiment, scheduler: RequestScheduler, trace: RoutingTrace, begun: Begun | None
) -> tuple[int, int]:
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
    together = min(-(-clients // replicas), scheduler.most_running * gpus)
    alone = int(outputs.sum())
    if begun is not None and begun.kv_tokens:
        held = float(inputs.mean() + outputs.mean() / 2)
        together = min(together, max(1, round(begun.kv_tokens * gpus / held)))
    passes = max(-(-alone // together), int(outputs.max()))
    if one.workload.arrivals.timed:
        step_ns = begun.step_ns if begun else _fastest_ns(one)
        follow = bool((arrival_ns == NEVER).any())
        most = (int(arrival_ns.max()) - int(arrival_ns.min())) / step_ns
        passes = alone if follow else min(alone, passes + round(most * replicas))
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
