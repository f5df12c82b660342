"""Runs of passes whose experts are all in memory: nothing is decided, a launch's price follows from
a few numbers, and these are counted straight from the rows of the trace that tokens take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.marks import BOTH, DECODE, MARKED, PROMPT, is_marked
from moesim.engine.pricing.prices import KEPT, Kept
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.ragged_launches import (
    COLUMNS,
    RaggedLaunches,
    number_of_launch,
    shape_of,
)
from moesim.engine.replay.clock.records import Works
from moesim.engine.replay.flat import NONE
from moesim.engine.replay.quick.activations import (
    ACCESS_HITS,
    ACTIVATED,
    COUNTED_HERE,
    HITS,
    MARKED_FROM,
)
from moesim.engine.replay.quick.bits import (
    TILES,
    UNKNOWN,
    UNTOLD,
    Bits,
    Tiles,
    bits_of,
    tell_shapes,
)
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Loading, Made, works_of
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.spans import IDS, RUNNING, SPANS, add_choices
from moesim.runtime.compiled import njit, record, types

NO_LAUNCH = -1
"""The number of a launch of no expert."""


class Routed(NamedTuple):
    """What passes choose: the ``running`` counts of the trace, the ``spans`` of rows that passes
    take; which layers are ``active`` bool[passes, MoE layers], where experts are ``home``
    int64[MoE layers, experts], and ``held``: homes of a GPU.
    """

    running: Any
    spans: Any
    active: Any
    home: Any
    held: Any


class Laid(NamedTuple):
    """What is filled in: of each (MoE layer, GPU) and pass the ``number`` int64[works, passes] of
    its launch's shape; -1 - n: n experts with a row each, which are counted in ``uses``
    int64[experts]. Rows ``executed`` int64[passes, layers, gpus] and ``counts`` int64[counted,
    passes, layers, gpus]. ``told`` int64[launches, passes, COLUMNS]: shapes that are known already
    (``tell_shapes``), of no launches where none are.
    """

    number: Any
    told: Any
    uses: Any
    executed: Any
    counts: Any


class Rows(NamedTuple):
    """Room for the rows of experts in a pass and layer: by home, of prompts and of tokens that
    decode, int64[homes]; of those of a GPU that have some, and the shape of its launch.
    """

    prompts: Any
    decoded: Any
    rows: Any
    shape: Any

    @classmethod
    def of(cls, held: int, gpus: int) -> Rows:
        """For so many GPUs with so many experts each."""
        prompts, decoded = np.zeros((2, held * gpus), np.int64)
        return cls(prompts, decoded, np.zeros(held + 1, np.int64), np.zeros(COLUMNS, np.int64))


_INT, _FLAT, _CUBE = types.int64, types.int64[::1], types.int64[:, :, ::1]
ROUTED = record(Routed, RUNNING, SPANS, types.boolean[:, ::1], types.int64[:, ::1], _INT)
_COUNTS = types.int64[:, :, :, ::1]
LAID = record(Laid, types.int64[:, ::1], _CUBE, _FLAT, _CUBE, _COUNTS)
ROWS = record(Rows, _FLAT, _FLAT, _FLAT, _FLAT)


@njit(types.void(IDS, ROUTED, _INT, _INT, _FLAT, _FLAT), cache=True, _nrt=False)
def _count(ids: Any, routed: Any, layer: int, step: int, prompts: Any, decoded: Any) -> None:
    """Fill in the choices of a pass in a layer by home, of prompts, or of all tokens where none is
    told apart, and of tokens that decode.
    """
    prompts[:] = 0
    decoded[:] = 0
    parts = (len(routed.spans.single_at) - 1) // len(routed.active)
    if routed.active[step, layer]:
        running, spans, own = routed.running, routed.spans, routed.home[layer]
        add_choices(ids, running, spans, own, layer, parts * step, prompts)
        if parts > 1:
            add_choices(ids, running, spans, own, layer, parts * step + 1, decoded)


@njit(_INT(_FLAT, _FLAT, _INT, _INT, _FLAT), cache=True, _nrt=False)
def _pack(prompts: Any, decoded: Any, first: int, last: int, rows: Any) -> int:
    """Fill in the ``rows`` of the experts of homes first:last that have some; how many."""
    experts = 0
    for at in range(first, last):
        own = prompts[at] + decoded[at]
        rows[experts] = own  # a sum that is read again would wait for memory
        experts += own > 0
    return experts


@njit(types.void(_FLAT, _FLAT, _INT, _INT, _COUNTS, _INT, _INT, _INT), cache=True, _nrt=False)
def _mark(
    prompts: Any, decoded: Any, first: int, last: int, counts: Any, step: int, layer: int, gpu: int
) -> None:
    """Count the experts of homes first:last by whose tokens need them."""
    of_prompts = of_decoded = of_both = 0
    for at in range(first, last):
        of_prompts += prompts[at] > 0
        of_decoded += decoded[at] > 0
        of_both += (prompts[at] > 0) & (decoded[at] > 0)
    counts[MARKED_FROM + PROMPT - 1, step, layer, gpu] += of_prompts - of_both
    counts[MARKED_FROM + DECODE - 1, step, layer, gpu] += of_decoded - of_both
    counts[MARKED_FROM + BOTH - 1, step, layer, gpu] += of_both


@njit(_INT(IDS, ROUTED, TILES, KEPT, _FLAT, LAID, ROWS, _INT, _INT), cache=True, _nrt=False)
def _find(
    ids: Any, routed: Any, tiles: Any, kept: Any, layers: Any, laid: Any, room: Any,
    slices: int, begin: int,
) -> int:  # fmt: skip
    """The launches of ``layers``, all alike, from one on, which are numbered layer by layer, in
    each pass by pass, GPU by GPU. Returns how far there was room for new shapes. Each is used on so
    many ``slices``.
    """
    passes, gpus = len(routed.active), laid.executed.shape[2]
    marked = laid.counts.shape[0] > MARKED_FROM
    prompts, decoded, rows, shape = room.prompts, room.decoded, room.rows, room.shape
    for place in range(begin, len(layers) * passes * gpus, gpus):
        if kept.filled[0] + gpus > len(kept.used):
            return place
        at, step = place // (passes * gpus), place // gpus % passes
        layer, counted = layers[at], False
        of_rows = layer if laid.executed.shape[1] > 1 else 0
        of_counts = layer if laid.counts.shape[2] > 1 else 0
        for gpu in range(gpus):
            work = layer * gpus + gpu
            if len(laid.told) > 0 and laid.told[at * gpus + gpu, step, 0] != UNTOLD:
                for column in range(COLUMNS):
                    shape[column] = laid.told[at * gpus + gpu, step, column]
                if marked:
                    laid.counts[MARKED_FROM + DECODE - 1, step, of_counts, gpu] += shape[1]
            else:
                if not counted:
                    _count(ids, routed, layer, step, prompts, decoded)
                first, last, counted = gpu * routed.held, (gpu + 1) * routed.held, True
                experts = _pack(prompts, decoded, first, last, rows)
                shape_of(rows, 0, experts, tiles.tile, tiles.group, tiles.by_average, shape)
                if marked:
                    _mark(prompts, decoded, first, last, laid.counts, step, of_counts, gpu)
            total, experts = shape[0], shape[1]
            laid.executed[step, of_rows, gpu] += total
            laid.counts[ACTIVATED, step, of_counts, gpu] += experts
            laid.counts[HITS, step, of_counts, gpu] += experts
            laid.counts[ACCESS_HITS, step, of_counts, gpu] += total
            laid.number[work, step] = -1 - experts
            if total == experts:
                laid.uses[experts] += slices
            else:
                laid.number[work, step] = number_of_launch(kept, shape, place + gpu, slices)
    return int(len(layers) * passes * gpus)


@njit(types.void(IDS, ROUTED, _FLAT, _FLAT, _INT, _FLAT, _FLAT), cache=True)
def _find_rows(
    ids: Any, routed: Any, layers: Any, places: Any, gpus: int, starts: Any, members: Any
) -> None:
    """Fill in the rows of the experts of launches by their ``places`` (``_find``), and where each
    one ends, from ``starts[1]`` on.
    """
    passes, homes = len(routed.active), routed.held * gpus
    prompts, decoded = np.empty(homes, np.int64), np.empty(homes, np.int64)
    for i in range(len(places)):
        place, gpu = places[i] // gpus, places[i] % gpus
        _count(ids, routed, layers[place // passes], place % passes, prompts, decoded)
        first, begin = gpu * routed.held, starts[i]
        own = members[begin : begin + routed.held + 1]
        starts[i + 1] = begin + _pack(prompts, decoded, first, first + routed.held, own)


class Resident(Loading):
    """Makes the runs of a case whose experts are all resident."""

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        self.case = reuse.case
        self.marked = is_marked(self.case)
        self.counted = (*COUNTED_HERE, *MARKED) if self.marked else COUNTED_HERE
        self._tiles = [Tiles(NONE, NONE, False) for _ in launches.specs]
        self._bits: list[Bits | None] = [None for _ in launches.specs]
        self._few = 0
        self._last: tuple[int, tuple[Ints, Ints, Ints]] | None = None

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case`` is one, and its prices say their tiles."""
        if case.offloaded or case.kernels != "grouped":
            return False
        specs, _ = case.moe_kinds
        return all(RaggedLaunches(case, layer).tiles is not None for layer in specs)

    @property
    def masks(self) -> NDArray[np.uint64] | None:
        """As ``Maker`` says, of layers that are all alike."""
        bits = self._bits[0] if len(self._bits) == 1 else None
        return None if bits is None or bits is UNKNOWN else bits.masks

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: nothing is held by expert, so that all are one run."""
        yield first, last

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        case, launches = self.case, self.launches
        executed, counts, number = self._laid_out(first, last)
        kernel_ns = np.empty_like(number)
        for kind in range(len(launches.specs)):
            works = self._works_of(kind)
            kernel_ns[works] = self._priced(kind, number[works])
        executed, counts = (
            one if case.slices == 1 else np.repeat(one, case.slices, axis=-1)
            for one in (executed, counts)
        )
        return Made(executed, counts, self._works(number != NO_LAUNCH, kernel_ns), 1)

    def _laid_out(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Rows that are executed, counts and the numbers of shapes, as ``Laid`` has them."""
        passes = last - first
        if self._last is not None and self._last[0] == first:  # it comes again, or some of it
            executed, counts, number = self._last[1]
            number = np.ascontiguousarray(number[:, :passes])
            self._use(number)
            return executed[:passes], counts[:, :passes], number
        case, finder, launches = self.case, self.reuse.finder, self.launches
        spans = finder.spans(first, last, apart=self.marked)
        active = self.reuse.routing.active(first, last)
        routed = Routed(finder.running, spans, active, finder.home, finder.width)
        executed = np.zeros((passes, finder.kept_rows, case.holders), np.int64)
        counts = np.zeros((len(self.counted), passes, finder.kept, case.holders), np.int64)
        number = np.empty((finder.layers * case.holders, passes), np.int64)
        most = int(np.diff(case.schedule.offsets[first : last + 1]).max()) * case.trace.top_k
        for kind in range(len(launches.specs)):
            told = self._told(routed, kind, most)
            laid = Laid(number, told, launches.uses[kind], executed, counts)
            self._find(finder.placed(first, last)[0], routed, kind, laid)
        self._last = (first, (executed, counts, number))
        return executed, counts, number

    def _works_of(self, kind: int) -> Ints:
        """The works of holders in layers of a ``kind``."""
        layers, holders = np.flatnonzero(self.launches.kinds == kind), self.case.holders
        return (layers[:, None] * holders + np.arange(holders)).ravel()

    def _use(self, number: Ints) -> None:
        """Use shapes by their ``number`` once more."""
        uses, slices = self.launches.uses, self.case.slices
        for kind, ragged in enumerate(self.launches.ragged):
            own = number[self._works_of(kind)].ravel()
            ragged.known.use(own[own >= 0], slices)
            uses[kind] += slices * np.bincount(-1 - own[own < 0], minlength=uses.shape[1])

    def _told(self, routed: Routed, kind: int, most: int) -> Ints:
        """The shapes of launches of a ``kind``, which have at ``most`` so many rows, that bits tell
        (``Laid``). Bits are known once more rows were asked for than the trace has.
        """
        passes, tiles = len(routed.active), self._tiles_for(kind, most)
        layers = np.flatnonzero(self.launches.kinds == kind)
        launches = len(layers) * self.case.holders
        if self.reuse.finder.replicas is None:  # with some, choices of a row differ by pass
            self._few += len(routed.spans.single)
        if self._few > self.case.trace.tokens and self._bits[kind] is None:
            parts = (self.case.trace.expert_ids, routed.home, layers, routed.held)
            self._bits[kind] = bits_of(*parts, self.case.holders)
        bits = self._bits[kind]
        if bits is None or bits is UNKNOWN or not routed.active.all():
            return np.zeros((0, passes, COLUMNS), np.int64)
        told = np.empty((launches, passes, COLUMNS), np.int64)
        tell_shapes(bits, routed.spans, tiles, told)
        return told

    def _tiles_for(self, kind: int, most: int) -> Tiles:
        """The tiles of launches of a ``kind`` with at ``most`` so many rows."""
        if len(self._tiles[kind].tile) <= most:
            found = self.launches.ragged[kind].tiles_of(2 * most + 1)
            assert found is not None, "or nothing is made so"
            self._tiles[kind] = Tiles(*found)
        return self._tiles[kind]

    def _find(self, ids: NDArray[np.uint16], routed: Routed, kind: int, laid: Laid) -> None:
        """Fill in what is ``laid`` of layers of a ``kind``, of what tokens choose in ``ids``."""
        case, ragged, tiles = self.case, self.launches.ragged[kind], self._tiles[kind]
        layers = np.flatnonzero(self.launches.kinds == kind)
        ragged.settle_many(self.provenance)
        gpus = case.holders
        room = Rows.of(routed.held, gpus)

        def find(kept: Kept, begin: int) -> int:
            return int(_find(ids, routed, tiles, kept, layers, laid, room, case.slices, begin))

        def members(places: Ints) -> tuple[Ints, Ints]:
            starts = np.zeros(len(places) + 1, np.int64)
            rows = np.empty(len(places) * (routed.held + 1) + 1, np.int64)
            _find_rows(ids, routed, layers, places, gpus, starts, rows)
            return rows[: starts[-1]], starts[:-1]

        ragged.add(find, len(layers) * len(routed.active) * gpus, members)

    def _priced(self, kind: int, number: Ints) -> Ints:
        """Prices of launches of a ``kind`` by the ``number`` of their shapes."""
        single_row_ns, known = self.launches.single_row_ns[kind], self.launches.ragged[kind].known
        single = single_row_ns[np.where(number < 0, -1 - number, 0)]
        return np.where(number < 0, single, known.of(np.maximum(number, 0)))

    def _works(self, launched: NDArray[np.bool_], kernel_ns: Ints) -> Works:
        """The works of launches, where one is ``launched``, of ``kernel_ns``, both [works of
        holders, passes].
        """
        if self.case.slices > 1:
            work = np.arange(len(launched))
            work = np.repeat(work.reshape(-1, self.case.holders), self.case.slices, axis=1).ravel()
            launched, kernel_ns = launched[work], kernel_ns[work]
        steps = np.zeros((len(launched), launched.shape[1] + 1), np.int64)
        np.cumsum(launched, axis=1, out=steps[:, 1:])
        base = np.cumsum(steps[:, -1]) - steps[:, -1]
        nothing = (np.zeros_like(base), np.zeros_like(steps), NONE, NONE)
        return works_of((base, steps, kernel_ns[launched]), nothing)

    def mark(self) -> Any:
        """As ``Maker`` says."""
        self._last = None
        return self.launches.mark(self.provenance)

    def back(self, mark: Any) -> None:
        """As ``Maker`` says."""
        self.launches.back(mark)
