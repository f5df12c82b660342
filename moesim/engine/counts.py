"""What happened, counted: independent of the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.memory.forms import Flags, Form, flags_of

COUNTED = (
    "activations", "hits", "rows", "kept_rows", "access_hits", "skipped_rows", "skipped_weight",
    "unneeded", "late", "prefetched", "prefetches_used", "prefetches_promoted",
    "prefetches_cancelled", "misses_caused", "host_hits", "storage_reads", "storage_reads_ahead",
    "storage_reads_used", "storage_bytes", "storage_ns",
)  # fmt: skip
"""What is counted by GPU: columns of a table, which the misses by form follow."""
(ACTIVATIONS, HITS, ROWS, KEPT_ROWS, ACCESS_HITS, SKIPPED_ROWS, SKIPPED_WEIGHT, UNNEEDED, LATE,
STARTED, USED, TAKEN_OVER, CANCELLED, CAUSED, HOST_HITS, STORAGE_READS, READS_AHEAD, READS_USED,
STORAGE_BYTES, STORAGE_NS, MISSED) = range(len(COUNTED) + 1)  # fmt: skip


def columns_of(case: Case) -> list[int]:
    """Those of COUNTED that may be other than 0 in ``case``."""
    columns = [ACTIVATIONS, HITS, ROWS, KEPT_ROWS, ACCESS_HITS]
    columns += [SKIPPED_ROWS, SKIPPED_WEIGHT] if case.skips else []
    columns += [UNNEEDED] if case.prefill == "stream" else []
    columns += range(LATE, CAUSED + 1) if case.prefetches else []
    return columns + ([*range(HOST_HITS, MISSED)] if case.host_cache is not None else [])


class Loads(NamedTuple):
    """Rows of every pass and MoE layer, int[passes, MoE layers] each: of all ``gpus`` together,
    and of the one with most.
    """

    total: NDArray[Any]
    largest: NDArray[Any]
    gpus: int

    @classmethod
    def of(cls, rows: Ints) -> Loads:
        """Of ``rows`` int64[passes, MoE layers, gpus]."""
        by_gpu = np.moveaxis(rows, 2, 0)  # GPUs are few: sums along them are slow
        return cls(np.einsum("gpl->pl", by_gpu), reduce(np.maximum, by_gpu), len(by_gpu))

    def since(self, first: int) -> Loads:
        """Those of passes ``first`` and later."""
        return Loads(self.total[first:], self.largest[first:], self.gpus)


class Apart(NamedTuple):
    """What is kept of each pass where counts are added up: its ``loads``, and whether experts were
    ``copied`` bool[passes, layers, gpus].
    """

    loads: Loads
    copied: NDArray[np.bool_]


class OfPasses:
    """Collects what is kept of each pass."""

    def __init__(self) -> None:
        self._loads: list[Loads] = []
        self._copied: list[NDArray[np.bool_]] = []

    def add(self, rows: Ints, copied: NDArray[np.bool_]) -> None:
        """The next passes: ``rows`` int64[passes, layers, gpus], in as few bytes as they need."""
        total, largest, gpus = Loads.of(rows)
        least = np.min_scalar_type(int(total.max(initial=0)))
        self._loads.append(Loads(total.astype(least), largest.astype(least), gpus))
        self._copied.append(copied)

    def total(self) -> Apart:
        """Of the whole run."""
        totals, largest, (gpus, *_) = zip(*self._loads, strict=True)
        loads = Loads(np.concatenate(totals), np.concatenate(largest), gpus)
        return Apart(loads, np.concatenate(self._copied))


@dataclass(eq=False)
class Counts:
    """By pass, MoE layer and GPU: int64[passes, layers, gpus]; ``*_choices`` int64[passes, layers].
    Equal layers may be kept as one, their sum, but for the rows of several GPUs; passes as
    ``Outcome.cuts`` says, and then some is kept ``apart`` for each.

    ``activations`` are distinct experts executed; ``missed`` int64[passes, layers, gpus, forms]
    those of them that missed, by the number of their form in ``forms``; ``unneeded`` experts copied
    with their layer; ``rows`` rows executed with padding, ``kept_rows`` without; ``access_hits``
    kept rows whose expert was a hit; ``dropped_choices`` choices beyond a capacity; ``lost_weight``
    int64[passes, layers, 2] as ``drops.gate_weights`` gives it; ``skipped_rows`` kept rows of
    activations that nothing computed, and ``skipped_weight`` their gate weight, in its units.
    ``late``: activations that waited for their prefetch; ``prefetched``: prefetches that started,
    ``prefetches_used`` those of them that an activation used, ``prefetches_promoted`` those that an
    activation found waiting; ``prefetches_cancelled`` never started; ``misses_caused`` whose expert
    a prefetch had evicted. Of the experts that misses want from host memory that is a cache,
    ``host_hits`` were there; ``storage_reads``: experts read into it, ``storage_reads_ahead`` those
    of them for prefetches, ``storage_reads_used`` those of these that an activation used. Where
    experts have variants, ``storage_bytes`` of these reads, and how long they keep the drive,
    ``storage_ns``.
    ``marked`` int64[passes, layers, gpus, MARKED]: what is counted by whose tokens need an expert
    (``marks.MARKED``); None where that is not told.
    ``prefetched_as`` int64[passes, layers, gpus, variants]: ``prefetched`` by variant, without
    columns where there are none; ``prefetches_used_as`` likewise.
    """

    activations: Ints
    hits: Ints
    rows: Ints
    kept_rows: Ints
    access_hits: Ints
    missed: Ints
    skipped_rows: Ints
    skipped_weight: Ints
    unneeded: Ints
    late: Ints
    prefetched: Ints
    prefetches_used: Ints
    prefetches_promoted: Ints
    prefetches_cancelled: Ints
    misses_caused: Ints
    host_hits: Ints
    storage_reads: Ints
    storage_reads_ahead: Ints
    storage_reads_used: Ints
    storage_bytes: Ints
    storage_ns: Ints
    prefetched_as: Ints
    prefetches_used_as: Ints
    dropped_choices: Ints
    lost_weight: Ints
    forms: tuple[Form, ...]
    apart: Apart | None = None
    marked: Ints | None = None

    @classmethod
    def of(
        cls, table: Ints, forms: tuple[Form, ...], dropped: Ints, lost_weight: Ints,
        columns: Sequence[int] = range(MISSED),
    ) -> Counts:  # fmt: skip
        """Those of ``table`` int64[passes, layers, gpus, ``columns`` of COUNTED, forms and
        ``ahead_of``], as views of it; of other columns 0.
        """
        place = {column: place for place, column in enumerate(columns)}
        nothing, first = np.broadcast_to(np.int64(0), table.shape[:-1]), len(columns)
        counted: dict[str, Any] = {
            name: table[..., place[column]] if column in place else nothing
            for column, name in enumerate(COUNTED)
        }
        ahead = first + len(forms)
        used = ahead + (table.shape[-1] - ahead) // 2
        return cls(
            **counted, missed=table[..., first:ahead], prefetched_as=table[..., ahead:used],
            prefetches_used_as=table[..., used:], dropped_choices=dropped, lost_weight=lost_weight,
            forms=forms,
        )  # fmt: skip

    def expert_bytes(self, case: Case) -> Ints:
        """Bytes of an expert of each of the layers that are told apart."""
        sizes = [layer.moe.expert.bytes for layer in case.model.moe_layers if layer.moe]
        return np.array(sizes[: self.activations.shape[1]])

    def stored_bytes(self, case: Case) -> Ints:
        """Bytes that are read from storage for an expert of each of these layers."""
        sizes = [layer.moe.expert.stored_bytes for layer in case.model.moe_layers if layer.moe]
        return np.array(sizes[: self.activations.shape[1]])

    def expert_bytes_to_gpus(self, case: Case) -> Ints:
        """Experts that came over the links, in bytes int64[passes]."""
        if case.variants is None:
            size = self.expert_bytes(case) * (not case.in_place)
            of_experts: Ints = (self.read.sum(axis=2) * size).sum(axis=1)
            return of_experts
        sizes = case.variants.sizes[: self.activations.shape[1]] * (not case.in_place)
        came = (self.missed.sum(axis=2) * sizes).sum(axis=(1, 2))
        ahead = self.prefetched_as.sum(axis=2) * sizes[:, : self.prefetched_as.shape[-1]]
        return np.asarray(came + ahead.sum(axis=(1, 2)))

    def largest_copy(self, case: Case) -> Ints:
        """Bytes of the largest expert that was copied, 0 without one: int64[passes, layers,
        gpus].
        """
        if case.variants is None:
            return np.where(self.copies > 0, self.expert_bytes(case)[:, None], 0)
        sizes = case.variants.sizes[: self.activations.shape[1]]
        ahead = sizes[:, None, : self.prefetched_as.shape[-1]]
        largest: Ints = np.where(self.missed > 0, sizes[:, None], 0).max(axis=-1)
        of_ahead = np.where(self.prefetched_as > 0, ahead, 0).max(axis=-1, initial=0)
        found: Ints = np.maximum(largest, of_ahead)
        return found

    @property
    def misses(self) -> Ints:
        """Activations whose expert was in no slot."""
        return self.activations - self.hits - self.late

    @property
    def copies(self) -> Ints:
        """Experts that were copied."""
        return self._missed_where(self.flags.in_slot) + self.unneeded + self.prefetched

    @property
    def read(self) -> Ints:
        """Experts whose weights came over the link, into a slot or into a kernel."""
        return self.copies + self._missed_where(self.flags.over_link)

    def missed_as(self, form: Form) -> Ints:
        """Misses that were served in ``form``, of which the run may have none."""
        return self._missed_where(np.array([one == form for one in self.forms]))

    @property
    def hosted(self) -> Ints:
        """Misses that the host computed."""
        return self._missed_where(self.flags.on_host)

    @property
    def flags(self) -> Flags:
        """What ``forms`` are, by number."""
        return flags_of(self.forms)

    def _missed_where(self, flags: NDArray[np.bool_]) -> Ints:
        """Misses whose form is one of those that ``flags`` bool[forms] say."""
        misses: Ints = self.missed[..., flags].sum(axis=-1)
        return misses


def ahead_of(case: Case) -> int:
    """The columns of a table of counts behind misses by form: where experts have variants,
    prefetches by variant, and those of them that were used.
    """
    return 2 * len(case.variants.names) if case.variants is not None and case.prefetches else 0


def new_counts(case: Case, passes: int, *, by_layer: bool) -> Ints:
    """A table of zeros, int64[passes, MoE layers (or 1), gpus, COUNTED, forms and ``ahead_of``]."""
    layers, columns = len(case.model.moe_layers), MISSED + len(case.forms) + ahead_of(case)
    return np.zeros((passes, layers if by_layer else 1, case.gpus, columns), np.int64)


def layer_bytes_to_gpus(case: Case) -> Ints:
    """Layers of the host that came over the links, in bytes int64[passes]."""
    phases = np.unique(case.schedule.phase)
    of_phase = np.zeros(int(phases.max(initial=0)) + 1, np.int64)
    for phase in phases.tolist():
        of_phase[phase] = sum(layer.link_bytes for layer in case.layers_of(phase))
    came: Ints = of_phase[case.schedule.phase]
    return came


UNCOUNTED = ("forms", "apart", "marked")


def counted_names() -> list[str]:
    """The fields of ``Counts`` that every run has."""
    return [name for name in Counts.__dataclass_fields__ if name not in UNCOUNTED]


def together(values: Ints) -> Ints:
    """The sum [passes, 1, ...] of all layers of ``values`` [passes, layers, ...], as one."""
    summed: Ints = np.einsum("pl...->p...", values)[:, None]  # a quarter of the time of a sum
    return summed
