"""Which expert every physical expert of a plan holds, and how replicas share its rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def room_of_gpus(physical: int, gpus: int) -> Ints:
    """How many physical experts int64[gpus] each GPU holds: the first ones one more where they do
    not divide.
    """
    return np.bincount(np.arange(physical) % gpus, minlength=gpus)


@dataclass(frozen=True, eq=False)
class Placement:
    """A plan as engines play it: ``logical`` int64[MoE layers, physical], on each GPU ascending.

    GPU g holds a run of neighbouring physical experts, the same in all layers.
    """

    logical: Ints
    gpus: int

    @classmethod
    def of(cls, physical_to_logical: Ints, gpus: int) -> Placement:
        """From a plan, whatever its order within a GPU."""
        plan = np.asarray(physical_to_logical, np.int64)
        gpu = np.repeat(np.arange(gpus), room_of_gpus(plan.shape[1], gpus))
        order = np.lexsort((plan, np.broadcast_to(gpu, plan.shape)))
        return cls(np.take_along_axis(plan, order, axis=1), gpus)

    @property
    def physical(self) -> int:
        """Physical experts of a layer."""
        return int(self.logical.shape[1])

    @cached_property
    def gpu_of_expert(self) -> Ints:
        """The GPU int64[physical] of each."""
        return np.repeat(np.arange(self.gpus), room_of_gpus(self.physical, self.gpus))

    @cached_property
    def replicas(self) -> Ints:
        """How many physical experts hold the same one, int64[MoE layers, physical]."""
        replicas: Ints = self._same.sum(axis=2)
        return replicas

    @cached_property
    def has_replicas(self) -> bool:
        """Whether an expert is held more than once."""
        ordered = np.sort(self.logical, axis=1)
        return bool((ordered[:, 1:] == ordered[:, :-1]).any())

    @cached_property
    def number(self) -> Ints:
        """Each one's number among its replicas, int64[MoE layers, physical]."""
        before: Ints = np.tril(self._same, -1).sum(axis=2)
        return before

    @cached_property
    def _same(self) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.logical[:, :, None] == self.logical[:, None, :]
        return same

    @cached_property
    def _as_it_is(self) -> bool:
        """Whether physical and logical ids are the same."""
        return bool((self.logical == np.arange(self.physical)).all())

    def spread(self, counts: Ints) -> Ints:
        """Choices [passes, MoE layers, senders, logical] as rows [..., physical]: replicas share
        each sender's equally, what is left from replica (sender modulo replicas) on.
        """
        if self._as_it_is and counts.shape[-1] == self.physical:
            return counts
        rows = np.take_along_axis(counts, self.logical[None, :, None, :], axis=3)
        if not self.has_replicas:
            return rows
        layer, expert = np.nonzero(self.replicas > 1)  # most have one alone: divisions are slow
        replicas = self.replicas[layer, expert][:, None]
        share, left = np.divmod(rows[:, layer, :, expert], replicas[:, None])
        turn = (self.number[layer, expert][:, None] - np.arange(counts.shape[2])) % replicas
        rows[:, layer, :, expert] = share + (turn[:, None] < left)
        return rows

    def of_logical(self, values: Ints) -> Ints:
        """Values [..., MoE layers, logical] for each physical expert, [..., MoE layers,
        physical].
        """
        if self._as_it_is and values.shape[-1] == self.physical:
            return values
        where = self.logical.reshape((1,) * (values.ndim - 2) + self.logical.shape)
        return np.take_along_axis(values, where, axis=-1)

    def names(self, moe_layer: int, gpu: int) -> list[str]:
        """What records call the experts of ``gpu``: their logical ids, ``5#2`` a second copy."""
        if (moe_layer, gpu) not in self._named:
            self._named[moe_layer, gpu] = self._names(moe_layer, gpu)
        return self._named[moe_layer, gpu]

    @cached_property
    def _named(self) -> dict[tuple[int, int], list[str]]:
        return {}

    def _names(self, moe_layer: int, gpu: int) -> list[str]:
        experts = self.logical[moe_layer, self.gpu_of_expert == gpu]
        copies = np.arange(len(experts)) - np.searchsorted(experts, experts)
        return [
            f"{expert}#{copy + 1}" if copy else str(expert)
            for expert, copy in zip(experts.tolist(), copies.tolist(), strict=True)
        ]
