"""The fewest layers whose experts the CPU takes, so that GPUs hold all else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from moesim.config.errors import InputError
from moesim.experiment.building.built import Built
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.traces import model_of
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.host.on_cpu import OnCpu

DECODES = ("decode", "all")
"""Phases that have decode steps."""
AT_ONCE = 4
"""Requests whose keys and values there is room for at least, where these take what all else leaves:
a server that has room for one would serve them one by one.
"""


def fewest_layers(
    experiment: Experiment, build: Callable[[Experiment], Built], context: int | None = None
) -> int | None:
    """Of how many MoE layers, the first ones, the experts have to be on the CPU so that GPUs hold
    all else that ``experiment`` has, whatever the host has room for; None: they do not with any, or
    more layers free nothing, in a memory that CPU and GPU share. ``context``: tokens of a request,
    in place of its own.

    Of requests that are served, all else is the room for keys and values that is written, or that
    of what is in llama.cpp's slots, or of ``AT_ONCE`` of the longest. Raises InputError where
    layers on the CPU do not go together with the rest, but not where none has to be there.
    """
    asked = at_context(experiment, context)

    def fits(layers: int) -> bool:
        try:
            return _holds(asked, build(with_layers(asked, layers)), context)
        except InputError:
            if layers == most:
                raise
            return False

    most = len(model_of(asked).moe_layers)
    if fits(0):
        return 0
    if needed("hardware", asked.hardware, asked.folders).unified:
        return None
    least = bisect_left(range(1, most + 1), True, key=fits) + 1
    return least if least <= most else None


def at_context(experiment: Experiment, context: int | None) -> Experiment:
    """``experiment`` with ``context`` tokens in the caches of decode steps; as it is where that is
    None, where the run has no such steps, or where requests have lengths of their own.
    """
    workload = experiment.workload
    if context is None or workload.phase not in DECODES or workload.batching.serves:
        return experiment
    return experiment.model_copy(
        update={"workload": workload.model_copy(update={"context": context})}
    )


def with_layers(experiment: Experiment, layers: int) -> Experiment:
    """``experiment`` with the experts of its first MoE ``layers`` on the CPU, and no others."""
    experts = experiment.experts.model_copy(update={"on_cpu": OnCpu(layers=layers)})
    return experiment.model_copy(update={"experts": experts})


def _holds(experiment: Experiment, built: Built, context: int | None) -> bool:
    """Whether the GPUs hold ``built``, with room for enough requests where these are served."""
    serving, pool = built.case.serving, built.case.kv_pool
    if built.footprint.total.max() > built.limit_bytes:
        return False
    written = experiment.memory is not None and not experiment.memory.kv.is_left
    if serving is None or pool is None or written:
        return True
    slot = getattr(serving.scheduler, "slot_context", None)
    longest = min(int(serving.served.asked.tokens.max()), serving.room.longest)
    at_once = min(AT_ONCE, pool.seats, experiment.workload.arrivals.concurrency or AT_ONCE)
    requests = pool.seats if slot else at_once
    return pool.blocks >= requests * pool.blocks_of(context or slot or longest)
