"""Host memory as a window over consecutive layers, which storage holds: what a pass reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.routing import Key
from moesim.memory.host.host_cache import HostCache


@dataclass(frozen=True, eq=False)
class HostWindow:
    """Of nodes with one GPU each: which MoE layers are ``read`` bool[MoE layers] by every pass that
    runs them; by layer and GPU the logical experts that it ``holds``, ascending.
    """

    read: NDArray[np.bool_]
    holds: dict[Key, Ints]

    @classmethod
    def of(cls, case: Case) -> HostWindow:
        """That of ``case``: the first layers that GPUs do not hold, as many as there is room for
        beside the window, are in host memory for good.
        """
        assert case.host_cache is not None, "host memory does not hold all"
        read = case.offloaded_layers.copy()
        read[np.flatnonzero(read)[: fixed_layers(case.host_cache, case)]] = False
        return cls(read, _held(case))

    def reads(
        self, key: Key, runs: NDArray[np.bool_], passes: tuple[Ints, ...], logical: tuple[Ints, ...]
    ) -> tuple[Ints, Ints]:
        """Offsets int64[passes + 1] of what a layer reads for a GPU, by pass; and how many experts
        of it were wanted that are there for good: ``logical`` ones in ``passes`` that ``runs``
        bool[passes] has.
        """
        number = len(self.holds[key]) if self.read[key[0]] else 0
        steps = np.concatenate(([0], np.cumsum(number * runs)))
        hits = np.zeros(len(runs), np.int64)
        if not self.read[key[0]]:
            wanted = np.concatenate(passes), np.concatenate(logical)
            each = np.unique(np.stack(wanted), axis=1)
            hits = np.bincount(each[0], minlength=len(runs))
        return steps, hits

    def places(self, key: Key, logical: Ints) -> Ints:
        """Which of the reads of its layer brings each of the ``logical`` experts; -1: none."""
        if not self.read[key[0]]:
            return np.full(len(logical), -1, np.int64)
        return np.searchsorted(self.holds[key], logical).astype(np.int64)


def _held(case: Case) -> dict[Key, Ints]:
    """By MoE layer and GPU the logical experts that it holds, ascending."""
    logical, layers = case.placement.logical, range(len(case.model.moe_layers))
    return {
        (layer, gpu): np.unique(logical[layer][case.local_experts(gpu)])
        for layer in layers
        for gpu in range(case.gpus)
    }


def fixed_layers(cache: HostCache, case: Case) -> int:
    """Layers that a window's slots hold for good; negative where they have no room for it."""
    return cache.slots // max(map(len, _held(case).values())) - cache.rooms
