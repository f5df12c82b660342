"""Bytes on every GPU at every forward pass, by category, before any clock runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.config.amounts.sizes import GIB
from moesim.memory.footprint.shares import Share
from moesim.model.spec import ModelSpec

Ints = NDArray[np.int64]
LASTING = ("weights", "kv_cache", "expert_slots", "copies_in_flight")
"""Categories that are there between passes too."""
_AT_ALL_STEPS = ("weights", "expert_slots", "copies_in_flight", "position_tables",
                 "allocator_blocks", "communication_buffers")  # fmt: skip
"""Categories that no request adds to, in sum the same at every step."""


@dataclass(frozen=True)
class Pool:
    """Slots of a further variant of experts, and the bytes of one, by MoE layer; ``nested``: the
    host has them in those of another.
    """

    slots: tuple[int, ...]
    sizes: tuple[int, ...]
    nested: bool = False


@dataclass(frozen=True)
class Residence:
    """Experts on a GPU: ``local`` ones of each MoE layer and ``slots`` by MoE layer, or ``buffers``
    in place of slots that all layers share in turn. ``staging`` experts pass by the slots.
    ``others``: slots of variants beside the first, of layers that do not hold all experts in that.
    ``pool``: bytes that the layers share which do not hold all, in place of slots.
    """

    local: int
    slots: tuple[int, ...]
    buffers: int | None = None
    staging: int = 0
    others: tuple[Pool, ...] = ()
    pool: int | None = None

    def resident_bytes(self, model: ModelSpec) -> int:
        """Bytes of the layers whose local experts are all resident from the start."""
        every = zip(self.slots, expert_bytes(model), model.moe_layers, strict=True)
        held = [(slots, size) for slots, size, layer in every if not layer.copied]
        return sum(self.local * size for slots, size in held if slots >= self.local)

    def kept_bytes(self, model: ModelSpec) -> int:
        """Bytes of what stays on the GPU of the local experts, beside slots."""
        return self.local * sum(
            one.moe.expert.resident_bytes for one in model.moe_layers if one.moe
        )

    def offloaded_bytes(self, model: ModelSpec) -> int:
        """Bytes of the other layers' local experts, which the host keeps."""
        apart = [pool for pool in self.others if not pool.nested]
        further = self.local * sum(size for pool in apart for _, size in self._cached(pool))
        every = zip(self.slots, stored_bytes(model), expert_bytes(model), strict=True)
        reused = sum(stored - size for slots, stored, size in every if slots < self.local)
        own = self.local * sum(expert_bytes(model)) - self.resident_bytes(model)
        return own + self.local * reused + further

    def pool_bytes(self, model: ModelSpec) -> int:
        """Bytes of the slots, or buffers, of the other layers, and of staging."""
        of_layers = zip(self.slots, expert_bytes(model), strict=True)
        cached = [(slots, size) for slots, size in of_layers if slots < self.local]
        largest = max((size for _, size in cached), default=0)
        if self.buffers is not None:
            return (self.buffers + self.staging) * largest
        if self.pool is not None and cached:
            return self.pool + self.staging * largest
        further = sum(slots * size for pool in self.others for slots, size in self._cached(pool))
        return sum(slots * size for slots, size in cached) + further + self.staging * largest

    def _cached(self, pool: Pool) -> list[tuple[int, int]]:
        """Slots and sizes of ``pool`` in the layers that have some."""
        every = zip(self.slots, pool.slots, pool.sizes, strict=True)
        return [(slots, size) for best, slots, size in every if best < self.local]


def slots_of(
    capacity: ExpertCapacity, sizes: Sequence[int], local: int, *, buffers: bool = False
) -> int:
    """Slots for each MoE layer on a GPU with ``local`` experts a layer; at least 1, at most
    ``local``. Where ``buffers`` stand in for slots a single expert may have none.

    Bytes are divided equally over the MoE layers, whose experts have ``sizes``, rounded down.
    ``auto`` is not among them: it depends on what else the GPU holds.
    """
    match capacity.kind:
        case "slots":
            slots = int(capacity.amount)
        case "bytes":
            slots = int(capacity.amount) // max(1, len(sizes) * max(sizes, default=1))
        case "fraction":
            slots = int(capacity.amount * local + 1e-9)
        case _:
            slots = local
    return min(max(slots, 0 if buffers and local == 1 else 1), local)


def expert_bytes(model: ModelSpec) -> list[int]:
    """Bytes of one routed expert in each MoE layer."""
    return [layer.moe.expert.bytes for layer in model.moe_layers if layer.moe]


def stored_bytes(model: ModelSpec) -> list[int]:
    """Bytes that host memory and storage hold of one routed expert in each MoE layer."""
    return [layer.moe.expert.stored_bytes for layer in model.moe_layers if layer.moe]


def replicated_bytes(model: ModelSpec) -> int:
    """Weights that every GPU holds: all but the routed experts and layers of the host, with room
    for the largest layer that is copied.
    """
    kept = model.bytes - host_layer_bytes(model) - sum(one.expert_bytes for one in model.layers)
    return kept + max((one.bytes for one in model.layers if one.copied), default=0)


def host_layer_bytes(model: ModelSpec) -> int:
    """Weights of layers that the host runs or keeps, but for their routed experts."""
    of_host = (one for one in model.layers if one.on_host or one.link_bytes)
    return sum(one.bytes - one.expert_bytes for one in of_host)


@dataclass(frozen=True, eq=False)
class Footprint:
    """Bytes by category: int64[passes, gpus] each, of GPUs that hold ``shares``; ``host`` bytes on
    the fullest node's host, ``pinned`` or not.

    ``copies_in_flight`` is room of the expert slots that a copy is filling; it is moved out of
    ``expert_slots`` once the misses are known.
    """

    parts: dict[str, Ints]
    host: int
    shares: tuple[Share, ...]
    pinned: bool = True

    @property
    def total(self) -> Ints:
        """Bytes int64[passes, gpus]."""
        total: Ints = np.sum(list(self.parts.values()), axis=0)
        return total

    @classmethod
    def of(
        cls,
        shares: tuple[Share, ...],
        residences: tuple[Residence, ...],
        *,
        kv_bytes: Ints,
        live: dict[str, Ints],
        pinned: bool = True,
        nodes: int = 1,
        host_kv_bytes: int = 0,
        host_cache_bytes: int | None = None,
    ) -> Footprint:
        """From ``kv_bytes`` int64[passes, gpus] and what is ``live`` (``live.live_parts``),
        what software always holds (``reserved.reserved_parts``) among it;
        ``pinned``: offloaded experts are in pinned host memory; ``nodes``: hosts that the GPUs are
        spread over evenly, neighbours on the same one; ``host_kv_bytes`` of layers of the host;
        ``host_cache_bytes``: room for experts in place of that for all offloaded ones.
        """
        ones, every = np.ones_like(kv_bytes), list(zip(shares, residences, strict=True))
        replicated = np.array([replicated_bytes(share.model) for share in shares])
        resident = np.array(
            [one.resident_bytes(share.model) + one.kept_bytes(share.model) for share, one in every]
        )
        pool = np.array([one.pool_bytes(share.model) for share, one in every])
        parts = {
            "weights": ones * (replicated + resident),
            "kv_cache": kv_bytes,
            **live,
            "expert_slots": ones * pool,
            "copies_in_flight": 0 * ones,
        }
        offloaded = np.array([one.offloaded_bytes(share.model) for share, one in every])
        host = int(offloaded.reshape(nodes, -1).sum(axis=1).max())
        host = host_kv_bytes + (host if host_cache_bytes is None else host_cache_bytes)
        host += sum(host_layer_bytes(share.model) for share in shares)
        return cls(parts, host, shares, pinned)

    @property
    def live(self) -> dict[str, Ints]:
        """What lives in the fullest pass of each GPU int64[1, gpus], and what software holds."""
        fullest = self.total.argmax(axis=0)[None]
        parts = {name: part for name, part in self.parts.items() if name not in LASTING}
        return {name: np.take_along_axis(part, fullest, axis=0) for name, part in parts.items()}

    @property
    def pinned_bytes(self) -> int:
        """Host memory that the operating system must not move."""
        return self.host if self.pinned else 0

    def overflow(self, limit: int, host_limit: int, told: Callable[[int], str] = str) -> str | None:
        """What does not fit, in words; None where all fits. ``told``: a step in words."""
        if self.host > host_limit:
            kind = "pinned" if self.pinned else "pageable"
            return (
                f"the offloaded experts' {_gib(self.host)} of {kind} memory do not fit in the "
                f"host's {_gib(host_limit)}; take a machine with more host memory, or keep some of "
                "them in storage (experts.host.capacity)"
            )
        if not (over := self.total > limit).any():
            return None
        lasting = {name: part[0] for name, part in self.parts.items() if name in _AT_ALL_STEPS}
        gpu = int(np.sum(list(lasting.values()), axis=0).argmax())
        held = {name: int(sizes[gpu]) for name, sizes in lasting.items()}
        if sum(held.values()) > limit:
            return f"GPU {self._named(gpu)} {_over(limit, held)}, before any keys and values"
        step, peak = np.unravel_index(int(self.total.argmax()), self.total.shape)
        first = int(over.any(axis=1).argmax())
        told_first = "" if first == step else f"; the first without room is step {told(first)}"
        where = f"GPU {self._named(int(peak))} at step {told(int(step))}"
        return f"{where} {_over(limit, self.at_peak())}{told_first}"

    def beside(self, left: int) -> str:
        """What the fullest GPU holds where that leaves it so many bytes, in words."""
        held = {name: size for name, size in self.at_peak().items() if size}
        names = " and ".join(
            f"{name.replace('_', ' ')} of {_gib(size)}" for name, size in held.items()
        )
        room = _gib(int(self.total.max()) + left)
        return f" beside {names} in the {room} that a GPU has for them"

    def _named(self, gpu: int) -> str:
        """A GPU's number, of how many it is one, and its layers where others have other ones."""
        first, last = self.shares[gpu].layers
        alike = all(share.layers == (first, last) for share in self.shares)
        named = str(gpu) if len(self.shares) == 1 else f"{gpu} of {len(self.shares)}"
        return named if alike else f"{named} (layers {first} to {last})"

    def in_flight(self, largest: Ints) -> None:
        """Move one expert's room from the slots to the copies in flight: of the ``largest`` copy
        int64[passes, MoE layers, gpus of the clock], or of equal layers as one.
        """
        for gpu, share in enumerate(self.shares):
            apart = share.moe.stop <= largest.shape[1]
            own = largest[:, share.moe if apart else slice(0, 1), share.gpu]
            moved = own.max(axis=1, initial=0)
            self.parts["copies_in_flight"][:, gpu] += moved
            self.parts["expert_slots"][:, gpu] -= moved

    def at_peak(self) -> dict[str, int]:
        """Bytes by category where the total is largest."""
        step, gpu = np.unravel_index(int(self.total.argmax()), self.total.shape)
        return {name: int(part[step, gpu]) for name, part in self.parts.items()}


def _over(limit: int, held: dict[str, int]) -> str:
    """What ``held`` bytes need of ``limit``, and what they are, the largest first."""
    needed = sum(held.values())
    names = ", ".join(
        f"{name.replace('_', ' ')} {_gib(size)}"
        for name, size in sorted(held.items(), key=lambda item: -item[1])
        if size
    )
    return f"needs {_gib(needed)} of {_gib(limit)}, {_gib(needed - limit)} too much: {names}"


def _gib(amount: int) -> str:
    return f"{amount / GIB:.2f} GiB"
