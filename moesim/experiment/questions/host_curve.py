"""How much host memory: the hits of every size of it, below the GPUs of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.engine.case import Case
from moesim.engine.program import Program
from moesim.engine.residency.residencies import usage_of
from moesim.engine.residency.storage import read_times
from moesim.engine.routing import Routing
from moesim.experiment.building.build import build
from moesim.experiment.building.storage_path import path_of, requests_of
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.curve import miss_curve
from moesim.memory.curves.verdict import slots_for
from moesim.memory.footprint.footprint import stored_bytes
from moesim.memory.host.host_cache import HostCache
from moesim.memory.policies import registry
from moesim.memory.policies.lru import Lru
from moesim.memory.policies.stream import Stream
from moesim.memory.policy import CachePolicy

Ints = NDArray[np.int64]
MS = 1_000_000
POLICIES = ("lru", "lfu", "fifo", "lifo", "static", "min")
"""Policies whose misses of all sizes are counted together."""
STEP = 0.02
"""The cliff is looked for in steps of this share of all experts."""


@dataclass
class Wanted:
    """What one node's host is asked for, kept instead of answered."""

    needs: list[ActiveExperts] = field(default_factory=list)

    def hits(self, needs: ActiveExperts) -> NDArray[np.bool_]:
        """None is a hit; see ``HostResidency``."""
        self.needs.append(needs)
        return np.zeros(len(needs.experts), np.bool_)

    def together(self) -> ActiveExperts:
        """All that was asked for."""
        sizes = np.concatenate([np.diff(one.offsets) for one in self.needs])
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        return ActiveExperts(offsets, np.concatenate([one.experts for one in self.needs]))


def host_curve(experiment: Experiment, policies: Sequence[str] = ("lru", "min")) -> pd.DataFrame:
    """The hits of host memory with room for 1, 2, ... experts below the GPUs of ``experiment``,
    whatever its own ``experts.host.capacity``; where CPU and GPU share one memory, those of one
    pool of slots there. Of the first node, from empty memory. A slot is as large as the largest
    expert, also where a run would go by bytes.

    Columns: ``policy``; ``experts`` (parts of them where they are sliced) and ``bytes`` of room;
    ``hit_ratio`` of what is wanted; ``reads_per_token``; ``read_ms_per_token``, what these keep the
    drive (NaN without one), which no token takes less than. Raises InputError for a policy that is
    none of POLICIES, for what does not go together with storage, and where nothing is wanted.
    """
    for name in (policies := tuple(dict.fromkeys(policies))):
        if name not in POLICIES:
            what = f"'{name}' has no curve of all sizes; write some of {', '.join(POLICIES)}"
            raise InputError([Problem("--policy", "", what)])
    case = _asking(experiment)
    routing, active = _wanted(case)
    width, tokens = routing.logical * case.slices, len(case.schedule.rows)
    busy, room = _busy(case, active, width), np.arange(1, len(routing.moe_layers) * width + 1)
    tables = []
    for name in policies:
        policy = registry.get(name)()
        misses = miss_curve(policy, active, _usage(case, routing, policy)).misses
        table = {"policy": name, "experts": room, "bytes": room * max(stored_bytes(case.model))}
        table["hit_ratio"] = 1 - misses / len(active.experts)
        table["reads_per_token"] = misses / tokens
        tables.append(pd.DataFrame(table | {"read_ms_per_token": misses / tokens * busy / MS}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Cliff:
    """Where a curve rises most: from ``below`` to ``above`` bytes by a ``gain`` of the hit ratio;
    and ``most``: the bytes that give nine tenths of what all memory gives over the least.
    """

    below: int
    above: int
    gain: float
    most: int

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Cliff:
        """Of the rows of one policy."""
        ratio, size = rows["hit_ratio"].to_numpy(), rows["bytes"].to_numpy()
        step = max(1, round(STEP * len(ratio)))
        padded = np.concatenate(([0.0], ratio))
        rises = padded[step:] - padded[:-step]
        at = int(rises.argmax())
        most = slots_for(-np.round(ratio * 1e9).astype(np.int64))
        below = int(size[at - 1]) if at else 0
        return cls(below, int(size[at + step - 1]), float(rises[at]), int(size[most - 1]))


def _asking(experiment: Experiment) -> Case:
    """The case of ``experiment``, with a host that is asked for all that its GPUs miss."""
    _check(experiment)
    built = build(experiment)
    case = built.case
    if case.scheduler is not None:
        what = "this batching reads the clock, and a curve has none; write static or refill"
        raise InputError(f"workload.batching: {what}")
    if built.hardware.unified:
        case = replace(case, policy=Stream(), slots=np.ones_like(case.slots))
    elif not case.offloaded:
        what = "all experts are on the GPUs, which want nothing from the host; write less"
        raise InputError(f"experts.capacity: {what}")
    room = experiment.experts.host
    mapped = path_of(room, case.software, built.hardware).path == "mmap"
    requests = requests_of(room, case.model, mapped=mapped)
    return replace(case, host_cache=HostCache(1, Lru(), requests, mapped))


def _check(experiment: Experiment) -> None:
    """An InputError for what does not go together with storage, whether there is some or not."""
    experts, workload = experiment.experts, experiment.workload
    streams = workload.prefill.experts == "stream" and workload.phase != "decode"
    wrong = {
        "experts.prefetch: a curve counts misses without prefetch; write none": (
            experts.prefetch.fetches
        ),
        "experts.host.layers_ahead: a curve is of a cache; leave it out": (
            experts.host.layers_ahead is not None
        ),
        "experts.variants: a curve is of one format; leave variants and choose out": (
            experts.variants is not None
        ),
        "offload_layers: a curve is of single experts, and these layers are copied whole from host"
        " memory that holds them; write 0": experiment.offload_layers > 0,
        "workload.prefill.experts: prompts that stream copy whole layers; write cache or bypass": (
            streams
        ),
    }
    for what, found in wrong.items():
        if found:
            raise InputError(what)


def _wanted(case: Case) -> tuple[Routing, ActiveExperts]:
    """What the first node's host is asked for."""
    program = Program(case)
    assert program.storage is not None
    taps = [Wanted() for _ in program.storage.hosts]
    program.storage.hosts = [*taps]
    for _ in program.chunks():
        pass
    wanted = taps[0].together()
    if not len(wanted.experts):
        raise InputError("experts: nothing is wanted from the host in this run")
    return program.routing, wanted


def _usage(case: Case, routing: Routing, policy: CachePolicy) -> Ints:
    """How often each expert is chosen where ``policy`` learns."""
    layers, part = range(len(routing.moe_layers)), policy.learning_part()
    usage = np.concatenate([usage_of(case, routing, layer, part) for layer in layers])
    return np.repeat(usage, case.slices)


def _busy(case: Case, wanted: ActiveExperts, width: int) -> float:
    """What a read keeps the drive, in ns, the mean over what is ``wanted``; NaN without one."""
    try:
        busy = read_times(case).busy
    except InputError:
        return float("nan")
    return float(busy[wanted.experts // width].mean())
