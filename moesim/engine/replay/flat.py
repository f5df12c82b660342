"""A case and its chunks as the arrays that the compiled clock reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, HostTimes, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.des.layer import exchange_ns
from moesim.trace.routing import Phase

Mask = NDArray[np.bool_]
NO_MOE = -1


class Fixed(NamedTuple):
    """What is the same in every pass; see ``clock.play``."""

    fixed: Ints
    of_layer: Ints
    launches: Ints


class LayerPrices(NamedTuple):
    """Prices by kind of layer, int64[kinds, passes, gpus] each, and the plan that says which layer
    has which; see ``clock.play``.
    """

    plan: Ints
    attention: Ints
    gate: Ints
    prepare: Ints
    shared: Ints
    restore: Ints

    def between(self, first: int, last: int) -> LayerPrices:
        """Those of passes first:last."""
        cut = [np.ascontiguousarray(table[:, first:last]) for table in self[1:]]
        return LayerPrices(self.plan, *cut)


class Played(NamedTuple):
    """A run of passes as ``clock.play`` takes it."""

    prices: LayerPrices
    runs: Mask
    phase: NDArray[np.uint8]
    head: Ints
    dispatch: Ints
    combine: Ints
    wave_base: Ints
    step_waves: Ints
    wave_ns: Ints
    read_ns: Ints
    copy_base: Ints
    step_copies: Ints
    copy_wave: Ints
    copy_wait: Ints
    streamed: Mask
    hosted: Ints
    most_waves: int


def fixed_of(case: Case) -> Fixed:
    """The constants of ``case``."""
    software, hosts, graph = case.software, HostTimes.of(case), case.execution == "graph"
    specs = [layer.moe.expert for layer in case.model.moe_layers if layer.moe]
    copies = [software.copies_per_expert(expert) for expert in specs]
    blocking = software.blocking and not graph
    host_times = (
        hosts.attention, hosts.sequence, hosts.dense, hosts.gate, hosts.shared, hosts.wave,
        hosts.combine, hosts.head, hosts.synchronisations,
    )  # fmt: skip
    constants = (
        *host_times,
        0 if graph else int(software.host_per_copy_ns * copies[0] + 0.5),
        blocking,
        software.overlap,
        case.prefill == "stream" and software.overlap and not blocking,
        exchange_ns(case),
        case.gating.agrees,
    )
    of_layer = np.empty((1 + case.gpus, len(specs)), np.int64)
    of_layer[0] = [
        case.prices.copy_ns(expert.bytes, "h2d", software.pinned, number)
        for expert, number in zip(specs, copies, strict=True)
    ]
    for gpu in range(case.gpus):
        counts = case.prices.copy_ns(4 * len(case.local_experts(gpu)), "d2h", software.pinned)
        of_layer[1 + gpu] = hosts.synchronisations * (counts + hosts.synchronisation)
    return Fixed(np.array(constants, np.int64), of_layer, _launches(case))


def _launches(case: Case) -> Ints:
    """Kernels that the host launches in every pass, by MoE layer and GPU; -1: the waves."""
    launches = np.full((len(case.model.moe_layers), case.gpus), -1)
    if case.software.calls_empty and case.kernels == "serial":
        for gpu in range(case.gpus):
            launches[case.resident(gpu), gpu] = len(case.local_experts(gpu))
    return launches.ravel()


def played(case: Case, chunk: Chunk) -> Played:
    """``chunk`` in one piece."""
    works = [chunk.work[key] for key in sorted(chunk.work)]
    phase = case.schedule.phase[chunk.first : chunk.first + chunk.passes]
    none = np.zeros((len(case.model.moe_layers), chunk.passes), np.int64)
    return Played(
        prices_of(case, chunk),
        runs_of(case, phase),
        np.ascontiguousarray(phase),
        np.ascontiguousarray(chunk.head),
        _by_moe_layer(chunk.dispatch, none),
        _by_moe_layer(chunk.combine, none),
        _bases([work.wave_ns for work in works]),
        np.stack([work.step_waves for work in works]),
        np.concatenate([work.wave_ns for work in works]),
        np.concatenate([work.read_ns for work in works]),
        _bases([work.copy_wave for work in works]),
        np.stack([work.step_copies for work in works]),
        np.concatenate([work.copy_wave for work in works]),
        np.concatenate([work.copy_wait for work in works]),
        np.stack([work.streamed for work in works]),
        np.stack([_hosted(work.step_hosted, work.hosted_ns, work.moved_ns) for work in works]),
        max(int(np.diff(work.step_waves).max()) for work in works),
    )


def _by_moe_layer(prices: dict[int, Ints], none: Ints) -> Ints:
    return np.stack([prices[layer] for layer in sorted(prices)]) if prices else none


def _bases(parts: list[Ints]) -> Ints:
    return np.cumsum([0, *(len(part) for part in parts[:-1])])


def _hosted(step_hosted: Ints, hosted_ns: Ints, moved_ns: Ints) -> Ints:
    """By pass, how long the host's experts and their rows take."""
    ends = np.concatenate(([0], np.cumsum(hosted_ns)))
    hosted: Ints = ends[step_hosted[1:]] - ends[step_hosted[:-1]] + moved_ns.sum(axis=0)
    return hosted


def runs_of(case: Case, phase: NDArray[np.uint8]) -> Mask:
    """By pass and model layer, whether it runs."""
    of_phase = np.zeros((len(Phase), len(case.model.layers)), np.bool_)
    for one in Phase:
        of_phase[one, [layer.index for layer in case.layers_of(one)]] = True
    runs: Mask = of_phase[phase]
    return runs


def prices_of(case: Case, chunk: Chunk) -> LayerPrices:
    """The prices of ``chunk``; equal ones are kept once."""
    plan = np.zeros((len(case.model.layers), 6), np.int64)
    plan[:, 0] = NO_MOE
    plan[[layer.index for layer in case.model.moe_layers], 0] = range(len(case.model.moe_layers))
    of_layers = (chunk.attention, chunk.gate, chunk.prepare, chunk.shared, chunk.restore)
    tables = []
    for column, of in enumerate(of_layers, 1):
        kinds: list[Ints] = []
        for layer, prices in of.items():
            place = next((i for i, one in enumerate(kinds) if one is prices), -1)
            if place < 0 and kinds and np.array_equal(kinds[-1], prices):
                place = len(kinds) - 1
            if place < 0:
                place = len(kinds)
                kinds.append(prices)
            plan[layer, column] = place
        tables.append(np.stack(kinds))
    return LayerPrices(plan, *tables)
