"""What happened, counted: independent of the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk, Work
from moesim.engine.routing import of_all
from moesim.memory.forms import Flags, Form, flags_of

ROUTED = ("dropped_choices", "lost_weight")
"""Counts that a chunk has as they are, without a GPU."""


@dataclass(eq=False)
class Counts:
    """By pass, MoE layer and GPU: int64[passes, layers, gpus]; ``*_choices`` int64[passes, layers].
    Equal layers may be kept as one, their sum, but for the rows of several GPUs.

    ``activations`` are distinct experts executed; ``missed`` int64[passes, layers, gpus, forms]
    those of them that missed, by the number of their form in ``forms``; ``unneeded`` experts copied
    with their layer; ``rows`` rows executed with padding, ``kept_rows`` without; ``access_hits``
    kept rows whose expert was a hit; ``dropped_choices`` choices beyond a capacity; ``lost_weight``
    int64[passes, layers, 2] as ``drops.gate_weights`` gives it; ``skipped_rows`` kept rows of
    activations that nothing computed, and ``skipped_weight`` their gate weight, in its units.
    ``late``: activations that waited for their prefetch; ``prefetched``: prefetches that started,
    ``prefetches_used`` those of them that an activation used, ``prefetches_promoted`` those that an
    activation found waiting; ``prefetches_cancelled`` never started; ``misses_caused`` whose expert
    a prefetch had evicted.
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
    dropped_choices: Ints
    lost_weight: Ints
    forms: tuple[Form, ...]

    def expert_bytes(self, case: Case) -> Ints:
        """Bytes of an expert of each of the layers that are told apart."""
        sizes = [layer.moe.expert.bytes for layer in case.model.moe_layers if layer.moe]
        return np.array(sizes[: self.activations.shape[1]])

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
    def flags(self) -> Flags:
        """What ``forms`` are, by number."""
        return flags_of(self.forms)

    def _missed_where(self, flags: NDArray[np.bool_]) -> Ints:
        """Misses whose form is one of those that ``flags`` bool[forms] say."""
        misses: Ints = self.missed[..., flags].sum(axis=-1)
        return misses


@dataclass(eq=False)
class Tally:
    """Collects the counts chunk by chunk."""

    case: Case
    parts: list[Counts] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Count ``chunk``."""
        layers = len(self.case.model.moe_layers)
        shape = (chunk.passes, layers, self.case.gpus)
        names = [name for name in counted_names() if name not in ROUTED]
        forms = self.case.miss.forms
        parts = {name: np.zeros(shape, np.int64) for name in names}
        parts["missed"] = np.zeros((*shape, len(forms)), np.int64)
        kept, flags = of_all(chunk.kept), self.case.miss.flags
        weight = chunk.kept_weight
        local = [self.case.local_experts(gpu) for gpu in range(self.case.gpus)]
        for layer in range(layers) if chunk.work else ():
            works = [chunk.work[layer, gpu] for gpu in range(self.case.gpus)]
            of_experts = [one[:, layer] for one in (kept, weight) if one is not None]
            for name, counted in _counted(works, of_experts, local, flags).items():
                parts[name][:, layer] = counted
        routed = {"dropped_choices": chunk.dropped, "lost_weight": chunk.lost_weight}
        self.parts.append(Counts(**parts, **routed, forms=forms))

    def total(self) -> Counts:
        """The counts of the whole run."""
        counted = {
            name: np.concatenate([getattr(part, name) for part in self.parts])
            for name in counted_names()
        }
        return Counts(**counted, forms=self.case.miss.forms)


def counted_names() -> list[str]:
    """The fields of ``Counts`` that are arrays."""
    return [name for name in Counts.__dataclass_fields__ if name != "forms"]


def _counted(
    works: list[Work], of_experts: list[Ints], local: list[Ints], flags: Flags
) -> dict[str, Ints]:
    """What the activations of a MoE layer on all GPUs add up to, int64[passes, gpus] each, or by
    form too; ``of_experts`` kept rows and, where it is counted, their gate weight int64[passes,
    experts]; ``local`` experts of each GPU.
    """
    offsets: Ints = np.stack([work.active_experts.offsets for work in works])
    needed = offsets[:, 1:] - offsets[:, :-1]
    place = np.repeat(np.arange(needed.size), needed.ravel())
    gpu, step = np.divmod(place, needed.shape[1])
    begins = np.cumsum([0, *(len(own) for own in local[:-1])])
    number = np.concatenate([work.activations.expert for work in works])
    expert = np.concatenate(local)[begins[gpu] + number]
    used, *weight = (one[step, expert] for one in of_experts)
    hit = np.concatenate([work.activations.hit for work in works])
    form, forms = np.concatenate([work.activations.form for work in works]), len(flags.nowhere)
    values = {
        "activations": np.ones_like(step),
        "hits": hit,
        "rows": np.concatenate([work.rows for work in works]),
        "kept_rows": used,
        "access_hits": used * hit,
    }
    if flags.nowhere.any():
        skipped = zip(("skipped_rows", "skipped_weight"), (used, *weight), strict=False)
        values |= {name: one * flags.nowhere[form] for name, one in skipped}
    counted = {
        name: np.bincount(place, value, needed.size).astype(np.int64).reshape(needed.shape).T
        for name, value in values.items()
    }
    by_form = np.bincount((place * forms + form)[~hit], minlength=needed.size * forms)
    counted["missed"] = by_form.reshape(*needed.shape, forms).swapaxes(0, 1)
    beyond = np.array([len(own) for own in local])[:, None] - needed
    streamed = np.stack([work.streamed for work in works])
    return counted | {"unneeded": np.where(streamed, beyond, 0).T}


def count_pass(
    counts: Counts, where: tuple[int, int, int], work: Work, late: NDArray[np.bool_],
    of_experts: tuple[Ints, Ints],
) -> None:  # fmt: skip
    """Count the activations of one pass, MoE layer and GPU, decided on the clock; ``late``
    bool[activations], ``of_experts`` kept rows and their gate weight int64[local experts].
    """
    activations = work.activations
    used, weight = (of[activations.expert] for of in of_experts)
    hit = activations.hit & ~late
    counts.activations[where] = len(activations.expert)
    counts.hits[where], counts.late[where] = hit.sum(), late.sum()
    counts.rows[where], counts.kept_rows[where] = work.rows.sum(), used.sum()
    counts.access_hits[where] = used[hit].sum()
    skipped = counts.flags.nowhere[activations.form]
    counts.skipped_rows[where] = used[skipped].sum()
    counts.skipped_weight[where] = weight[skipped].sum()
    missed = activations.form[~activations.hit]
    counts.missed[where] = np.bincount(missed, minlength=len(counts.forms))
