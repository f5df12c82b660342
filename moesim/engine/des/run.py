"""The discrete-event engine: one process a GPU, its engines, and the links that they share."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import simpy

from moesim.config.errors import InputError
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.des.collective import Collective
from moesim.engine.des.copies import CopyIn, SharedWay
from moesim.engine.des.drive import Drive, LayersAhead
from moesim.engine.des.gpu import Gpu
from moesim.engine.des.gpu_prefetch import PrefetchingGpu
from moesim.engine.des.host import HostCompute
from moesim.engine.des.invariants import Invariants
from moesim.engine.des.links import FairLinks
from moesim.engine.des.prefetch import OnTheClock
from moesim.engine.des.records import Kept
from moesim.engine.outcome import TOO_LONG, Outcome
from moesim.engine.pricing.unpacking import with_unpacking
from moesim.engine.program import Program
from moesim.engine.progress import Progress, Standing
from moesim.engine.tally import Tally
from moesim.runtime.compiled import working_s

LATE_NS = 1 << 62
"""From here on a step may lie beyond what int64 holds."""


class _Feed:
    """Hands each chunk to each of the ``gpus`` once. They may be apart by more than one chunk where
    no layer of theirs lets them meet.
    """

    def __init__(self, program: Program, tally: Tally, gpus: int, standing: Standing) -> None:
        self._source, self._tally, self._gpus = program.chunks(), tally, gpus
        self._standing = standing
        self._held: dict[int, tuple[Chunk, Ints] | None] = {}
        self._taken: Counter[int] = Counter()

    def __call__(self, number: int) -> Chunk | None:
        if number not in self._held:
            chunk = next(self._source, None)
            self._held[number] = None if chunk is None else (chunk, self._tally.add(chunk))
            if chunk is not None:
                self._standing.after(chunk.first)
        self._taken[number] += 1
        if self._taken[number] == self._gpus:  # nobody plays the one before any more
            self._held.pop(number - 1, None)
        held = self._held[number]
        return None if held is None else held[0]

    def counted(self, number: int) -> tuple[Chunk, Ints]:
        """A chunk that is played, and the table of its counts."""
        held = self._held[number]
        assert held is not None, "it is played"
        return held


def run_des(
    case: Case, *, records: str = "layer", check: bool = False, progress: Progress | None = None
) -> Outcome:
    """Play ``case``; ``records`` as in the experiment; ``check`` turns on the invariants;
    ``progress`` is told how far it is.

    Raises AssertionError where an invariant does not hold.
    """
    begun, gpus = working_s(), list[Gpu]()
    case = case.opened(lambda: np.array([gpu.time for gpu in gpus]))
    env, tally = simpy.Environment(), Tally(case)
    program = Program(case)
    standing, group = Standing(case, progress), Collective(env, case.gpus)
    feed = _Feed(program, tally, case.gpus, standing)
    fair = FairLinks(env, case.links.capacity) if case.links is not None else None
    kept = Kept(check or records in ("layer", "expert"), check or records == "expert")
    drives = _drives(env, case)
    for number in range(case.gpus):
        copy_in = _copy_engine(env, case, number, fair)
        gpu = (PrefetchingGpu if program.views is not None else Gpu)(
            env, number, case, group, copy_in, kept,
            held=program.residencies.held(number),
            host_compute=_host_compute(env, case, number, fair),
        )  # fmt: skip
        gpu.drive = drives[number]
        if isinstance(gpu, PrefetchingGpu):
            decider = OnTheClock(env, case, number, program, copy_in, named=kept.spans)
            gpu.decide_by(decider, feed.counted)
        if kept.spans:
            copy_in.on_copy = partial(gpu.records.copies, number)
        gpus.append(gpu)
        env.process(gpu.run(feed))
    try:
        with np.errstate(over="raise"):
            env.run()
        standing.after(case.schedule.passes)
        outcome = _outcome(gpus, tally)
    except (ArithmeticError, ValueError):
        if env.now < LATE_NS:
            raise
        raise InputError(TOO_LONG) from None
    checks = Invariants(case, outcome).verify() if check else {}
    outcome = replace(
        outcome,
        seconds=working_s() - begun,
        checks=checks,
        provenance=program.provenance_totals(),
        fates=program.fates,
        rebalanced=program.rebalanced,
    )
    return with_unpacking(case, outcome)


def _copy_engine(env: simpy.Environment, case: Case, gpu: int, fair: FairLinks | None) -> CopyIn:
    blocking, way = case.software.blocking and case.execution != "graph", None
    if fair is not None and case.links is not None:
        way = SharedWay(fair, case.links.h2d[gpu])
    return CopyIn(env, case.host_copy_ns, blocking=blocking, way=way)


def _host_compute(
    env: simpy.Environment, case: Case, gpu: int, fair: FairLinks | None
) -> HostCompute | None:
    """The host's experts where copies read the same memory, else None: nothing disturbs them."""
    if fair is None or case.links is None or gpu not in case.links.host:
        return None
    return HostCompute(env, fair, case.links.host[gpu])


def _drives(env: simpy.Environment, case: Case) -> list[Drive | None]:
    """By GPU the drive of its node, from which experts are read; None where host memory has all."""
    if case.host_cache is None:
        return [None] * case.gpus
    each, rooms = case.gpus // case.nodes, case.host_cache.rooms
    drives = [LayersAhead(env, rooms) if rooms else Drive(env, each) for _ in range(case.nodes)]
    return [drives[gpu // each] for gpu in range(case.gpus)]


def _outcome(gpus: list[Gpu], tally: Tally) -> Outcome:
    records = [gpu.records for gpu in gpus]
    layers = [
        np.array(
            [(step, layer, gpu, *rest) for step, layer, *rest in one.layers], np.int64
        ).reshape(-1, 7)
        for gpu, one in enumerate(records)
    ]
    table, buffers = np.concatenate(layers), gpus[0].case.policy.shared_buffers()
    return Outcome(
        engine="des",
        counts=tally.total(),
        starts=np.array([one.starts for one in records], np.int64).T,
        ends=np.array([one.ends for one in records], np.int64).T,
        charges=np.array([one.charges for one in records], np.int64).transpose(1, 0, 2),
        layers=table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))],
        schedule=gpus[0].case.schedule.first(len(records[0].ends)),
        spans=sorted(
            (span for one in records for span in one.spans), key=lambda span: span.start_ns
        ),
        held=[
            (gpu, time, experts)
            for gpu, one in enumerate(records)
            for time, experts in (one.held if buffers is None else ())
        ],
        copies=sum(gpu.copy_in.served for gpu in gpus),
        categories=gpus[0].categories,
    )
