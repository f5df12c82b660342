"""Slots for experts on the device, least recently used, and the copies that fill them.

Written apart from ``moesim.memory`` and from the same rules (docs/semantics.md), so that equal
hits mean something.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Activation:
    """``expert`` runs from ``slot``; ``after``: the activation of this step that must end before
    its copy, None where the slot is free at once.
    """

    expert: int
    slot: int
    hit: bool
    after: int | None = None


class LruSlots:
    """Which expert of one layer is in which slot."""

    def __init__(self, slots: int, experts: int) -> None:
        resident = range(experts) if slots >= experts else ()
        self.slot_of = {expert: expert for expert in resident}
        self.free = [] if slots >= experts else list(range(slots))
        self.recent = list(resident)
        """Residents, the one used longest ago first."""

    def activations(self, needed: Sequence[int]) -> list[Activation]:
        """The activations of a step that needs the experts ``needed``, ascending."""
        activations: list[Activation] = []
        for number, expert in enumerate(needed):
            if hit := expert in self.slot_of:
                slot, after = self.slot_of[expert], None
                self.recent.remove(expert)
            else:
                slot, after = self._room(needed, number)
                self.slot_of[expert] = slot
            self.recent.append(expert)
            activations.append(Activation(expert, slot, hit, after))
        return activations

    def _room(self, needed: Sequence[int], number: int) -> tuple[int, int | None]:
        """A free slot, or that of a victim, and the victim's activation if it ran in this step."""
        if self.free:
            return self.free.pop(0), None
        idle = [expert for expert in self.recent if expert not in needed]
        ran = [expert for expert in self.recent if expert in needed[:number]]
        to_run = [expert for expert in needed[number:] if expert in self.slot_of]
        victim = idle[0] if idle else ran[0] if ran else to_run[-1]
        self.recent.remove(victim)
        after = None if idle or not ran else needed.index(victim)
        return self.slot_of.pop(victim), after


class Pool:
    """A slot buffer for each layer, filled from ``store`` by copies that the host waits for.

    ``store``: for each layer a host tensor [experts, elements]; the buffers have as many slots,
    of which ``reset`` says how many are used.
    """

    def __init__(self, store: list[Any], device: str) -> None:
        self.store = store
        self.buffers = [layer.to(device, copy=True) for layer in store]
        self.layers: list[LruSlots] = []

    def reset(self, slots: int) -> None:
        """Empty ``slots`` slots a layer, or all experts resident where there is room for them."""
        experts = len(self.store[0])
        self.layers = [LruSlots(slots, experts) for _ in self.store]
        if slots >= experts:
            for buffer, layer in zip(self.buffers, self.store, strict=True):
                buffer.copy_(layer)

    def begin(self, layer: int, needed: Sequence[int]) -> list[Activation]:
        """Decide the activations of ``layer``; their copies may begin."""
        return self.layers[layer].activations(needed)

    def ready(self, layer: int, activation: Activation) -> Any:
        """The weights of ``activation``, once they are there."""
        slot = self.buffers[layer][activation.slot]
        if not activation.hit:
            slot.copy_(self.store[layer][activation.expert])
        return slot

    def ran(self) -> None:
        """The kernels of the activation that was ``ready`` last are launched."""


class StreamPool(Pool):
    """Pinned host memory and a copy stream: copies run in activation order beside kernels.

    A copy into the slot of an expert that runs in this step waits for that kernel. Other slots are
    free: the host has waited for the router, so all kernels of earlier layers and steps have ended.
    """

    def __init__(self, store: list[Any], device: str) -> None:
        import torch

        super().__init__([layer.pin_memory() for layer in store], device)
        self.cuda = torch.cuda
        self.stream = torch.cuda.Stream()
        self.ended: list[Any] = []
        self.copied: dict[int, Any] = {}
        self.waiting: deque[Activation] = deque()

    def begin(self, layer: int, needed: Sequence[int]) -> list[Activation]:
        """See Pool."""
        activations = super().begin(layer, needed)
        self.waiting = deque(activation for activation in activations if not activation.hit)
        self.ended, self.copied = [], {}
        self._copy(layer)
        return activations

    def ready(self, layer: int, activation: Activation) -> Any:
        """See Pool."""
        self._copy(layer)
        if not activation.hit:
            self.cuda.current_stream().wait_event(self.copied[activation.expert])
        return self.buffers[layer][activation.slot]

    def ran(self) -> None:
        """See Pool."""
        self.ended.append(self.cuda.current_stream().record_event())

    def _copy(self, layer: int) -> None:
        """Start the waiting copies, in order, up to the first whose victim is not launched yet."""
        while self.waiting and self._slot_is_free(self.waiting[0]):
            activation = self.waiting.popleft()
            if activation.after is not None:
                self.stream.wait_event(self.ended[activation.after])
            with self.cuda.stream(self.stream):
                source = self.store[layer][activation.expert]
                self.buffers[layer][activation.slot].copy_(source, non_blocking=True)
            self.copied[activation.expert] = self.stream.record_event()

    def _slot_is_free(self, activation: Activation) -> bool:
        """Whether the kernel that the copy of ``activation`` waits for, if any, is launched."""
        return activation.after is None or activation.after < len(self.ended)
