"""Host memory as a window over layers that are read in order, of nodes with one GPU each
(docs/semantics.md).
"""

from __future__ import annotations

from typing import Any

from .reference_misses import SKIP
from .reference_placement import local_experts
from .reference_storage import Host
from .reference_words import Activation


class HostWindow(Host):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        config, model = self.config, self.model
        ahead = config.host_layers_ahead
        assert ahead is not None
        self.rooms = [0] * (1 + ahead)  # when each is free of the layer that was in it last
        self.entered = 0  # layers that were read so far
        local = local_experts(model, config)
        layers = range(len(model.moe_layers))
        self.ids = [  # [MoE layer][GPU], of the router
            [sorted({self.held[m][e] for e in mine}) for mine in local] for m in layers
        ]
        most = max(len(ids) for of_layer in self.ids for ids in of_layer)
        missing = [m for m in layers if any(config.lacks(model, m, len(mine)) for mine in local)]
        self.read_layers = set(missing[max(0, self.slots // most - len(self.rooms)) :])

    def layer(self, step: int, m: int, g: int, activations: list[Activation], known: int) -> None:
        wanted = [one for one in activations if one.missed and one.place != SKIP]
        if m not in self.read_layers:
            self.hits += len({self.held[m][one.expert] for one in wanted})
            return
        begin = max(self.free, self.rooms[self.entered % len(self.rooms)])
        ids = self.ids[m][g]
        busy = self.busy(m)
        self.free = begin + len(ids) * busy
        self.reads += len(ids)
        self.bytes += len(ids) * self.model.stored_in(m)
        for one in wanted:
            place = ids.index(self.held[m][one.expert])
            one.read = begin + place * busy + self.busy(m, queued=False)

    def ended(self, m: int, now: int) -> None:
        """The layer's experts have ended."""
        if m in self.read_layers:
            self.rooms[self.entered % len(self.rooms)] = now
            self.entered += 1
