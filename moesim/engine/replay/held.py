"""What the slots hold, as arrays over (MoE layer, GPU)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.replay.activations import (
    CONSTANT,
    LOADED_AT,
    LOADED_LAST,
    NEXT_USED,
    USED_AT,
    USES,
)
from moesim.engine.replay.kept import kept_of, with_draws
from moesim.engine.residencies import Residencies
from moesim.engine.routing import Routing
from moesim.memory.policies.fifo import Fifo
from moesim.memory.policies.lfu import Lfu
from moesim.memory.policies.lifo import Lifo
from moesim.memory.policies.lru import Lru
from moesim.memory.policies.min import Min
from moesim.memory.policies.static import Static
from moesim.memory.policy import FREQUENCY, INSERTED, LAST_USE, NEXT_USE, USAGE

RANKS: dict[type, tuple[int, int, int]] = {
    Lru: (USED_AT, LAST_USE, 1),
    Fifo: (LOADED_AT, INSERTED, 1),
    Lifo: (LOADED_LAST, INSERTED, -1),
    Lfu: (USES, FREQUENCY, 1),
    Static: (CONSTANT, USAGE, 1),
    Min: (NEXT_USED, NEXT_USE, -1),
}
"""What ranks experts under a policy: by what it changes, and its row of the state with a sign."""


class Held:
    """What is in the slots of each (MoE layer, GPU), a row each, and how it ranks: by ``rank``, or
    by the policy's state ``kept``. ``first_uses`` int64[MoE layers x gpus, width]: where they are
    known, of a policy that looks ahead.
    """

    def __init__(self, case: Case, routing: Routing, first_uses: Callable[[], Ints]) -> None:
        gpus, layers = case.gpus, len(routing.moe_layers)
        self.local = np.array([len(local) for local in routing.local])
        self.slots = np.ascontiguousarray(case.slots.T).ravel()
        shape = (layers * gpus, int(self.local.max()))
        self.resident, self.rank = np.zeros(shape, np.bool_), np.zeros(shape, np.int64)
        self.clock = np.zeros((len(self.slots), 2), np.int64)
        works, ranks = len(self.slots), RANKS.get(type(case.policy))
        self.rank_of, row, sign = ranks or (CONSTANT, USAGE, 1)
        # next uses are looked up elsewhere; what the slots hold at first goes by no policy
        blind = replace(case, policy=Lru()) if self.rank_of == NEXT_USED else case
        future = None
        if ranks is None and case.policy.looks_ahead:
            future = {
                divmod(work, gpus): one[: self.local[work % gpus]]
                for work, one in enumerate(first_uses())
            }
        self._residencies = Residencies(blind, routing, future)
        caches = self._residencies.caches
        for (layer, gpu), cache in caches.items():
            work, number = layer * gpus + gpu, len(cache.resident)
            self.resident[work, :number] = cache.resident
            self.rank[work, :number] = sign * cache.state[row]
            self.clock[work, 1] = cache.resident.sum()
        self.kept = None if ranks else kept_of(caches, works, gpus)
        self.open_rank = np.full(shape, np.iinfo(np.int64).max)
        self.open()

    def draw(self) -> None:
        """Draw for all passes that are known."""
        if self.kept is not None and self._residencies.draw():
            self.kept = with_draws(self.kept, self._residencies.caches, len(self.local))

    def open(self) -> None:
        """Make all residents candidates."""
        self.open_rank[self.resident] = self.rank[self.resident]
