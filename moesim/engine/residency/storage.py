"""What a run reads from storage: which experts are not in host memory, and what a read takes."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import NONE, Chunk, Work
from moesim.engine.counts import HOST_HITS, STORAGE_BYTES, STORAGE_NS, STORAGE_READS
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.residency.host_window import HostWindow
from moesim.engine.residency.residencies import usage_of
from moesim.engine.residency.stored_variants import StoredVariants, busy_ns
from moesim.engine.routing import Key, Routing
from moesim.memory.activations import ActiveExperts, steps_of
from moesim.memory.host.host_cache import HostCache, Reads
from moesim.memory.host.host_residency import HostResidency
from moesim.memory.policy import reads_usage
from moesim.memory.slots.initial import in_order
from moesim.model.spec import FfnSpec
from moesim.runtime.compiled import njit, record, types


class ReadTimes(NamedTuple):
    """Of one expert of each MoE layer, int64[MoE layers] in ns: how long its read keeps the drive
    from others, how long ``after`` that its last byte is there, and how long before that its copy
    may begin (``lead``), which follows the read chunk by chunk.
    """

    busy: Ints
    after: Ints
    lead: Ints


NO_READ, PARTS = -1, 3
"""Of what is there; and how many parts a work's needs have."""
NO_READS = ReadTimes(*np.zeros((3, 0), np.int64))


def read_times(case: Case) -> ReadTimes:
    """Those of ``case``, none where host memory holds all experts."""
    if (cache := case.host_cache) is None:
        return NO_READS
    times: dict[FfnSpec, tuple[int, int, int]] = {}
    layers = [layer.moe.expert for layer in case.model.moe_layers if layer.moe]
    for expert in layers:
        if expert not in times:
            times[expert] = _times(case, cache, expert)
    return ReadTimes(*np.array([times[expert] for expert in layers], np.int64).T.copy())


def _times(case: Case, cache: HostCache, expert: FfnSpec) -> tuple[int, int, int]:
    shape = (expert.stored_bytes, cache.requests, cache.mapped)
    busy = int(case.prices.price("storage_read", *shape, True)[()])
    alone = int(case.prices.price("storage_read", *shape, False)[()])
    copy = case.expert_copy_ns(expert)
    chunks = -(-expert.stored_bytes // cache.chunk) if cache.chunk else 1
    return busy, alone - busy, min(busy, copy) * (chunks - 1) // chunks


class Host(Protocol):
    """What a node's host is asked."""

    def hits(self, demand: ActiveExperts) -> NDArray[np.bool_]: ...  # noqa: D102 (HostResidency)


def hosts_of(case: Case, routing: Routing, cache: HostCache) -> list[HostResidency]:
    """The host of each node."""
    layers, part = range(len(routing.moe_layers)), cache.policy.learning_part()
    variants = case.stored.shape[1]
    usage = np.zeros(len(layers) * variants * routing.logical, np.int64)
    if case.initial != "empty" or reads_usage(type(cache.policy)):
        usage = np.concatenate(
            [np.tile(usage_of(case, routing, one, part), variants) for one in layers]
        )
    usage, steps = np.repeat(usage, case.slices), (len(layers), case.gpus // case.nodes)
    sizes = np.repeat(case.stored.ravel(), len(usage) // case.stored.size)
    hosts = []
    for node in range(case.nodes):
        stream, drawn = (
            np.random.default_rng([case.seed, zlib.crc32(name), node])
            for name in (b"host_cache.random", b"host_cache.initial")
        )
        first = None
        if case.initial != "empty":
            first = in_order(case.initial, usage, len(layers), drawn)
        hosts.append(HostResidency(cache, usage, steps, stream, first, sizes))
    return hosts


def host_numbers(case: Case, routing: Routing, gpu: int) -> Ints:
    """What hosts call the experts of ``gpu``, int64[MoE layers, local experts], where they are
    whole.
    """
    logical, local = case.placement.logical, routing.local[gpu]
    layers = range(len(routing.moe_layers))
    return np.stack([layer * routing.logical + logical[layer][local] for layer in layers])


class _Demand(NamedTuple):
    """What a work wants from host memory, in three parts: by copy, by expert of the host and by
    expert that a launch reads over the link. Of each where the passes begin, int64[passes + 1],
    and the logical experts (of variants, numbered one behind another). Of the last part the
    ``launches``; and where a copy may want several, which one wants each, ``copy``.
    """

    offsets: tuple[Ints, Ints, Ints]
    logical: tuple[Ints, Ints, Ints]
    launches: Ints
    copy: Ints | None = None


class Storage:
    """Decides the reads of a run with a ``host_cache``, chunk by chunk."""

    def __init__(self, case: Case, routing: Routing, cache: HostCache) -> None:
        self.case, self.routing, self.cache = case, routing, cache
        self.gpus = case.gpus // case.nodes
        self.hosts: list[Host] = [*hosts_of(case, routing, cache)]
        self.reads = np.zeros_like(case.stored)
        self.variants = None
        if case.variants is not None:
            self.variants = StoredVariants.of(case, case.variants, cache)
        self.window = HostWindow.of(case) if cache.rooms else None

    def fill(self, chunk: Chunk) -> None:
        """Add the reads of ``chunk`` to its works and their counts."""
        demand = {key: self._demand(key, work) for key, work in chunk.work.items()}
        for node, host in enumerate(self.hosts):
            gpus = range(node * self.gpus, (node + 1) * self.gpus)
            mine = {key: one for key, one in demand.items() if key[1] in gpus}
            found = self._windowed(mine, chunk) if self.window is not None else None
            for key, reads in (found or self._reads(host, gpus, mine, chunk)).items():
                work, number = chunk.work[key], np.diff(reads.steps)
                counts = chunk.counts[:, key[0] if chunk.counts.shape[1] > 1 else 0, key[1]]
                counts[:, HOST_HITS] += reads.hits
                counts[:, STORAGE_READS] += number
                if self.variants is None:
                    self.reads[key[0]] += number.sum()
                else:
                    counts[:, STORAGE_BYTES] += reads.bytes
                    counts[:, STORAGE_NS] += busy_ns(reads)
                chunk.work[key] = replace(work, reads=reads)

    def _windowed(self, demand: dict[Key, _Demand], chunk: Chunk) -> dict[Key, Reads]:
        """What is read of whole layers, and where in it is what the works of a node want."""
        assert self.window is not None, "see fill"
        runs, found = self.routing.active(chunk.first, chunk.first + chunk.passes), {}
        for key, one in demand.items():
            passes = tuple(map(steps_of, one.offsets))
            steps, hits = self.window.reads(key, runs[:, key[0]], passes, one.logical)
            copy, host, link = (self.window.places(key, part) for part in one.logical)
            launches = len(chunk.work[key].laid.starts)
            found[key] = Reads(
                steps, hits, copy, _last(link, one.launches, launches),
                _last(host, passes[1], chunk.passes),
            )  # fmt: skip
        return found

    def mark(self) -> tuple[list[Any], Ints]:
        """What ``back`` goes back to, of a run."""
        return [host.mark() for host in self._caches], self.reads.copy()

    def back(self, mark: tuple[list[Any], Ints]) -> None:
        """Nothing has been read since then."""
        for host, of_host in zip(self._caches, mark[0], strict=True):
            host.back(of_host)
        self.reads[:] = mark[1]

    @property
    def _caches(self) -> list[HostResidency]:
        """The hosts of a run; a question asks others."""
        return cast("list[HostResidency]", self.hosts)

    def settle(self, provenance: Provenance) -> None:
        """Count what the prices of reads rest on."""
        for size in np.unique(self.case.stored).tolist():
            number = int(self.reads[self.case.stored == size].sum())
            shape = (size, self.cache.requests, self.cache.mapped, True)
            price = self.case.prices.price("storage_read", *shape)
            provenance.add("storage_read", np.atleast_1d(price), *shape, times=number)

    def _demand(self, key: Key, work: Work) -> _Demand:
        laid, one = work.laid, work.activations
        logical = self.case.placement.logical[key[0]][self.routing.local[key[1]]]
        launch = linked = NONE
        if self.case.flags.over_link.any():
            of_gpu = self.case.flags.over_link[one.form[laid.on_gpu]]
            launch = np.searchsorted(laid.starts, np.flatnonzero(of_gpu), side="right") - 1
            linked = logical[one.expert[laid.on_gpu[of_gpu]]]
        demand = _Demand(
            (laid.step_copies, laid.step_hosted, np.searchsorted(launch, laid.step_launches)),
            (logical[laid.copied], logical[one.expert[laid.hosted]], linked),
            launch,
        )
        if self.variants is None:
            return demand
        copy, variant = self.variants.wants(work.copied)
        copied = variant * self.routing.logical + logical[laid.copied[copy]]
        return demand._replace(
            offsets=(np.searchsorted(copy, laid.step_copies), *demand.offsets[1:]),
            logical=(copied, *demand.logical[1:]),
            copy=copy,
        )

    def _reads(
        self, host: Host, gpus: range, demand: dict[Key, _Demand], chunk: Chunk
    ) -> dict[Key, Reads]:
        """The reads of the works of one node; each part of a sliced expert is one of its own."""
        layers, parts = len(self.routing.moe_layers), self.case.slices
        width = self.routing.logical * parts * self.case.stored.shape[1]
        keys = [(layer, gpu) for layer in range(layers) for gpu in gpus]
        some = [any(len(one.logical[part]) for one in demand.values()) for part in range(PARTS)]
        every = [(part, key) for part in range(PARTS) if some[part] or not part for key in keys]
        experts = [demand[key].logical[part] * parts + key[1] % parts for part, key in every]
        base = np.cumsum([0, *map(len, experts)])
        offsets = [demand[key].offsets[part] for part, key in every]
        asked = _Asked(np.stack(offsets, 1) + base[:-1], np.concatenate(experts), len(gpus))
        shape = (chunk.passes, layers, len(gpus))
        steps, room = np.zeros(np.prod(shape) + 1, np.int64), np.full(width, NO_READ, np.int64)
        wanted = np.empty(len(asked.experts), np.int64)
        wanted = wanted[: _want(asked, room, steps, wanted)]
        hits = host.hits(ActiveExperts(steps, wanted))
        reads, numbers = np.empty(shape, np.int64), np.empty_like(asked.experts)
        _number(asked, room, steps, wanted, hits, reads.reshape(-1), numbers)
        there = np.diff(steps).reshape(shape) - reads
        of_works = dict(zip(every, np.split(numbers, base[1:-1]), strict=True))
        found = {}
        for work, key in enumerate(keys):
            here, one, laid = (
                (slice(None), *divmod(work, len(gpus))),
                demand[key],
                chunk.work[key].laid,
            )
            copy, hosted, linked = (of_works.get((part, key), NONE) for part in range(PARTS))
            found[key] = Reads(
                np.concatenate(([0], np.cumsum(reads[here]))),
                there[here],
                copy if one.copy is None else _last(copy, one.copy, len(laid.copied)),
                _last(linked, one.launches, len(laid.starts)),
                _last(hosted, steps_of(one.offsets[1]), chunk.passes),
            )
        if self.variants is not None:
            code = steps_of(steps) * width
            self._time(found, chunk, (code + wanted % width)[~hits], gpus)
        return found

    def _time(self, found: dict[Key, Reads], chunk: Chunk, read: Ints, gpus: range) -> None:
        """Add times to the reads ``found`` of one node, whose codes are ``read``."""
        assert self.variants is not None, "reads differ"
        each, layers = self.routing.logical * self.case.slices, len(self.routing.moe_layers)
        step, variant = np.divmod(read // each, self.case.stored.shape[1])
        works = step % (layers * len(gpus))
        order = np.argsort(works, kind="stable")
        ends = np.cumsum(np.bincount(works, minlength=layers * len(gpus)))
        of_works = np.split(variant[order], ends[:-1])
        for (layer, gpu), reads in found.items():
            mine = of_works[layer * len(gpus) + gpu - gpus.start]
            self.reads[layer] += np.bincount(mine, minlength=self.reads.shape[1])
            work = chunk.work[layer, gpu]
            passes = steps_of(work.laid.step_copies)
            found[layer, gpu] = self.variants.timed(reads, layer, mine, work.copied, passes)


class _Asked(NamedTuple):
    """What the works of a node want, part by part of those that any wants: ``offsets``
    int64[passes + 1, parts x works] into the ``experts``, of works that are (MoE layer, GPU), of so
    many ``gpus``.
    """

    offsets: Any
    experts: Any
    gpus: Any


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
_ASKED = record(_Asked, _TABLE, _FLAT, types.int64)


@njit(types.int64(_ASKED, _FLAT, _FLAT, _FLAT), cache=True, _nrt=False)
def _want(asked: Any, asked_by: Any, steps: Any, wanted: Any) -> int:
    """Fill in the experts ``wanted``, each once, ascending, numbered over all layers, by each step,
    (pass, MoE layer, GPU), and their offsets ``steps`` int64[steps + 1]; returns their number.
    ``asked_by`` int64[experts] of -1 is room for the last step that wanted each.
    """
    works, number = (len(steps) - 1) // (len(asked.offsets) - 1), 0
    for step in range(len(steps) - 1):
        p, work = step // works, step % works
        first = work // asked.gpus * len(asked_by)
        for part in range(work, asked.offsets.shape[1], works):
            for i in range(asked.offsets[p, part], asked.offsets[p + 1, part]):
                expert, place = asked.experts[i], number
                if asked_by[expert] == step:
                    continue
                asked_by[expert] = step
                while place > steps[step] and wanted[place - 1] > first + expert:
                    wanted[place] = wanted[place - 1]
                    place -= 1
                wanted[place] = first + expert
                number += 1
        steps[step + 1] = number
    return number


@njit(
    types.void(_ASKED, _FLAT, _FLAT, _FLAT, types.boolean[::1], _FLAT, _FLAT),
    cache=True,
    _nrt=False,
)
def _number(
    asked: Any, read_of: Any, steps: Any, wanted: Any, hits: Any, reads: Any, numbers: Any
) -> None:
    """Fill in how many ``reads`` each step makes, and the ``numbers`` of that which brings each of
    the experts that are ``asked`` for, -1 where it is there; ``read_of`` int64[experts] is room.
    """
    works = len(reads) // (len(asked.offsets) - 1)
    for step in range(len(reads)):
        p, work, made = step // works, step % works, 0
        first = work // asked.gpus * len(read_of)
        for i in range(steps[step], steps[step + 1]):
            read_of[wanted[i] - first] = NO_READ if hits[i] else made
            made += not hits[i]
        reads[step] = made
        for part in range(work, asked.offsets.shape[1], works):
            for i in range(asked.offsets[p, part], asked.offsets[p + 1, part]):
                numbers[i] = read_of[asked.experts[i]]


def _last(numbers: Ints, places: Ints, count: int) -> Ints:
    """The largest of the ``numbers`` at each of ``count`` places; -1 without one."""
    last = np.full(count, -1, np.int64)
    if len(places):
        np.maximum.at(last, places, numbers)
    return last
