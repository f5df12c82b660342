"""What a run reads from storage: which experts are not in host memory, and what a read takes."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk, Work
from moesim.engine.counts import HOST_HITS, STORAGE_BYTES, STORAGE_NS, STORAGE_READS
from moesim.engine.host_window import HostWindow
from moesim.engine.provenance import Provenance
from moesim.engine.residencies import usage_of
from moesim.engine.routing import Routing
from moesim.engine.stored_variants import busy_ns, stored_variants
from moesim.memory.activations import ActiveExperts
from moesim.memory.host_cache import HostCache, Reads
from moesim.memory.host_residency import HostResidency
from moesim.memory.initial import in_order
from moesim.model.spec import FfnSpec
from moesim.runtime.compiled import njit

Key = tuple[int, int]
"""A MoE layer and a GPU."""


class ReadTimes(NamedTuple):
    """Of one expert of each MoE layer, int64[MoE layers] in ns: how long its read keeps the drive
    from others, how long ``after`` that its last byte is there, and how long before that its copy
    may begin (``lead``), which follows the read chunk by chunk.
    """

    busy: Ints
    after: Ints
    lead: Ints


WANTED, NOT_WANTED = -2, -1
"""Of an expert, before its read has a number; and where it needs none."""
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

    def hits(self, needs: ActiveExperts) -> NDArray[np.bool_]: ...  # noqa: D102 (HostResidency)


def hosts_of(case: Case, routing: Routing, cache: HostCache) -> list[HostResidency]:
    """The host of each node."""
    layers, part = range(len(routing.moe_layers)), cache.policy.learning_part()
    variants = case.stored.shape[1]
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


class _Needs(NamedTuple):
    """What a work wants from host memory: by copy, by expert of the host and by expert that a
    launch reads over the link, the pass and the logical expert of each (of variants, numbered one
    behind another); ``launches`` of the last; and where a copy may want several, which one wants
    each, ``copy``.
    """

    copies: tuple[Ints, Ints]
    hosted: tuple[Ints, Ints]
    linked: tuple[Ints, Ints]
    launches: Ints
    copy: Ints | None = None


class Storage:
    """Decides the reads of a run with a ``host_cache``, chunk by chunk."""

    def __init__(self, case: Case, routing: Routing, cache: HostCache) -> None:
        self.case, self.routing, self.cache = case, routing, cache
        self.gpus = case.gpus // case.nodes
        self.hosts: list[Host] = [*hosts_of(case, routing, cache)]
        self.reads = np.zeros_like(case.stored)
        self.variants = stored_variants(case, cache)
        self.window = HostWindow.of(case) if cache.rooms else None

    def fill(self, chunk: Chunk) -> None:
        """Add the reads of ``chunk`` to its works and their counts."""
        needs = {key: self._needs(key, work) for key, work in chunk.work.items()}
        for node, host in enumerate(self.hosts):
            gpus = range(node * self.gpus, (node + 1) * self.gpus)
            mine = {key: one for key, one in needs.items() if key[1] in gpus}
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

    def _windowed(self, needs: dict[Key, _Needs], chunk: Chunk) -> dict[Key, Reads]:
        """What is read of whole layers, and where in it is what the works of a node want."""
        assert self.window is not None, "see fill"
        runs, found = self.routing.active(chunk.first, chunk.first + chunk.passes), {}
        for key, one in needs.items():
            passes = one.copies[0], one.hosted[0], self._pass_of_link(one, chunk.work[key])
            logical = one.copies[1], one.hosted[1], one.linked[1]
            steps, hits = self.window.reads(key, runs[:, key[0]], passes, logical)
            copy, host, link = (self.window.places(key, part) for part in logical)
            launches = len(chunk.work[key].laid.starts)
            found[key] = Reads(
                steps, hits, copy, _last(link, one.launches, launches),
                _last(host, one.hosted[0], chunk.passes),
            )  # fmt: skip
        return found

    def _pass_of_link(self, needs: _Needs, work: Work) -> Ints:
        passes: Ints = _passes(work.laid.step_launches)[needs.launches]
        return passes

    def settle(self, provenance: Provenance) -> None:
        """Count what the prices of reads rest on."""
        every = zip(self.case.stored.ravel().tolist(), self.reads.ravel().tolist(), strict=True)
        for size, number in every:
            shape = (size, self.cache.requests, self.cache.mapped, True)
            price = self.case.prices.price("storage_read", *shape)
            provenance.add("storage_read", np.atleast_1d(price), *shape, times=number)

    def _needs(self, key: Key, work: Work) -> _Needs:
        laid, one = work.laid, work.activations
        logical = self.case.placement.logical[key[0]][self.routing.local[key[1]]]
        linked = self.case.flags.over_link[one.form[laid.on_gpu]]
        launch = np.searchsorted(laid.starts, np.flatnonzero(linked), side="right") - 1
        passes = [_passes(offsets) for offsets in (laid.step_copies, laid.step_hosted)]
        of_launch = _passes(laid.step_launches)
        needs = _Needs(
            (passes[0], logical[laid.copied]),
            (passes[1], logical[one.expert[laid.hosted]]),
            (of_launch[launch], logical[one.expert[laid.on_gpu[linked]]]),
            launch,
        )
        if self.variants is None:
            return needs
        copy, variant = self.variants.wants(work.copied)
        numbers = variant * self.routing.logical + logical[laid.copied[copy]]
        return needs._replace(copies=(passes[0][copy], numbers), copy=copy)

    def _reads(
        self, host: Host, gpus: range, needs: dict[Key, _Needs], chunk: Chunk
    ) -> dict[Key, Reads]:
        """The reads of the works of one node; each part of a sliced expert is one of its own."""
        layers, parts = len(self.routing.moe_layers), self.case.slices
        width = self.routing.logical * parts * self.case.stored.shape[1]

        def codes(key: Key, of: tuple[Ints, Ints]) -> Ints:
            step = (of[0] * layers + key[0]) * len(gpus) + key[1] - gpus.start
            code: Ints = step * width + of[1] * parts + key[1] % parts
            return code

        asked = {key: [codes(key, part) for part in one[:3]] for key, one in needs.items()}
        shape = (chunk.passes, layers, len(gpus))
        table = np.full(int(np.prod(shape)) * width, NOT_WANTED, np.int32)
        for of in asked.values():
            for part in of:
                table[part] = WANTED
        offsets, in_pool = _wanted(table.reshape(-1, width), layers, len(gpus))
        hits = host.hits(ActiveExperts(offsets, in_pool))
        _number(table.reshape(-1, width), offsets, in_pool, hits)
        before = np.concatenate(([0], np.cumsum(~hits)))
        reads, wanted = np.diff(before[offsets]).reshape(shape), np.diff(offsets).reshape(shape)
        found = {}
        for key, one in needs.items():
            here = (slice(None), key[0], key[1] - gpus.start)
            of = [table[part].astype(np.int64) for part in asked[key]]
            work = chunk.work[key]
            found[key] = Reads(
                np.concatenate(([0], np.cumsum(reads[here]))),
                wanted[here] - reads[here],
                of[0] if one.copy is None else _last(of[0], one.copy, len(work.copied)),
                _last(of[2], one.launches, len(work.laid.starts)),
                _last(of[1], one.hosted[0], chunk.passes),
            )
        if self.variants is not None:
            code = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * width
            self._time(found, chunk, (code + in_pool % width)[~hits], gpus)
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
            passes = _passes(work.laid.step_copies)
            found[layer, gpu] = self.variants.timed(reads, layer, mine, work.copied, passes)


@njit(cache=True)
def _wanted(table: Any, layers: int, gpus: int) -> tuple[Any, Any]:
    """Offsets int64[steps + 1] of the experts that each step, (pass, MoE layer, GPU), wants, and
    these, numbered over all layers; ``table`` int32[steps, experts] is WANTED where it does.
    """
    steps, width = table.shape
    offsets, number = np.zeros(steps + 1, np.int64), 0
    for step in range(steps):
        for expert in range(width):
            number += table[step, expert] == WANTED
        offsets[step + 1] = number
    wanted = np.empty(number, np.int64)
    for step in range(steps):
        number, first = offsets[step], step // gpus % layers * width
        for expert in range(width):
            if table[step, expert] == WANTED:
                wanted[number] = first + expert
                number += 1
    return offsets, wanted


@njit(cache=True)
def _number(table: Any, offsets: Any, wanted: Any, hits: Any) -> None:
    """Fill in ``table``, as of ``_wanted``, which read of its step brings each expert, -1: none."""
    width = table.shape[1]
    for step in range(len(table)):
        reads = 0
        for i in range(offsets[step], offsets[step + 1]):
            table[step, wanted[i] % width] = NOT_WANTED if hits[i] else reads
            reads += not hits[i]


def _passes(offsets: Ints) -> Ints:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _last(numbers: Ints, places: Ints, count: int) -> Ints:
    """The largest of the ``numbers`` at each of ``count`` places; -1 without one."""
    last = np.full(count, -1, np.int64)
    if len(places):
        np.maximum.at(last, places, numbers)
    return last
