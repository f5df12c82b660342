"""Bytes on every GPU at every forward pass, by category, before any clock runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.config.capacity import ExpertCapacity
from moesim.model.spec import ModelSpec

Ints = NDArray[np.int64]
MASK_BYTES = 15
"""Bytes an element of static gating's masks: three fp32 tensors, a boolean and an fp16 one
(arXiv 2303.06182).
"""
LOGIT_BYTES = 4


@dataclass(frozen=True)
class Residence:
    """Experts on a GPU: ``local`` ones of each MoE layer and ``slots`` by MoE layer, or ``buffers``
    in place of slots that all layers share in turn. ``staging`` experts pass by the slots.
    """

    local: int
    slots: tuple[int, ...]
    buffers: int | None = None
    staging: int = 0

    def resident_bytes(self, model: ModelSpec) -> int:
        """Bytes of the layers whose local experts are all resident from the start."""
        sizes = zip(self.slots, expert_bytes(model), strict=True)
        return sum(self.local * size for slots, size in sizes if slots >= self.local)

    def offloaded_bytes(self, model: ModelSpec) -> int:
        """Bytes of the other layers' local experts, which the host keeps."""
        return self.local * sum(expert_bytes(model)) - self.resident_bytes(model)

    def pool_bytes(self, model: ModelSpec) -> int:
        """Bytes of the slots, or buffers, of the other layers, and of staging."""
        of_layers = zip(self.slots, expert_bytes(model), strict=True)
        cached = [(slots, size) for slots, size in of_layers if slots < self.local]
        largest = max((size for _, size in cached), default=0)
        if self.buffers is not None:
            return (self.buffers + self.staging) * largest
        return sum(slots * size for slots, size in cached) + self.staging * largest


def slots_of(capacity: ExpertCapacity, model: ModelSpec, local: int) -> int:
    """Slots for each MoE layer on a GPU with ``local`` experts a layer; at least 1, at most
    ``local``.

    Bytes are divided equally over the MoE layers, rounded down. ``auto`` is not among them: it
    depends on what else the GPU holds.
    """
    largest = max(layer.moe.expert.bytes for layer in model.moe_layers if layer.moe)
    match capacity.kind:
        case "slots":
            slots = int(capacity.amount)
        case "bytes":
            slots = int(capacity.amount) // (len(model.moe_layers) * largest)
        case "fraction":
            slots = int(capacity.amount * local + 1e-9)
        case _:
            slots = local
    return min(max(slots, 1), local)


def expert_bytes(model: ModelSpec) -> list[int]:
    """Bytes of one routed expert in each MoE layer."""
    return [layer.moe.expert.bytes for layer in model.moe_layers if layer.moe]


def replicated_bytes(model: ModelSpec) -> int:
    """Weights that every GPU holds: everything but the routed experts."""
    routed = sum(
        layer.moe.experts * layer.moe.expert.bytes for layer in model.moe_layers if layer.moe
    )
    return model.bytes - routed


def activation_bytes(model: ModelSpec, tokens: Ints, requests: Ints) -> Ints:
    """Live activations of a pass: four hidden rows a token, the routed rows with their expert's
    inner width, and fp32 logits of each request.
    """
    moe = max((layer.moe for layer in model.moe_layers if layer.moe), key=lambda m: m.top_k)
    inner = moe.expert.intermediate_size * (2 if moe.expert.gated else 1)
    a_token = 4 * model.hidden_size + moe.top_k * (model.hidden_size + inner)
    return tokens * a_token * model.activation_bytes + requests * model.vocab_size * LOGIT_BYTES


@dataclass(frozen=True, eq=False)
class Footprint:
    """Bytes by category: int64[passes, gpus] each; ``host`` bytes on the host, ``pinned`` or not.

    ``copies_in_flight`` is room of the expert slots that a copy is filling; it is moved out of
    ``expert_slots`` once the misses are known.
    """

    parts: dict[str, Ints]
    host: int
    pinned: bool = True

    @property
    def total(self) -> Ints:
        """Bytes int64[passes, gpus]."""
        total: Ints = np.sum(list(self.parts.values()), axis=0)
        return total

    @classmethod
    def of(
        cls,
        model: ModelSpec,
        residences: tuple[Residence, ...],
        *,
        tokens: Ints,
        requests: Ints,
        kv_bytes: Ints,
        capacity: Ints | None,
        pinned: bool = True,
    ) -> Footprint:
        """From ``tokens``, ``requests``, ``kv_bytes`` int64[passes, gpus]; ``capacity``
        int64[passes] of a gating with masks, else None; ``pinned``: offloaded experts are in pinned
        host memory.
        """
        gpus = len(residences)
        replicated, ones = replicated_bytes(model), np.ones_like(tokens)
        resident = np.array([one.resident_bytes(model) for one in residences])
        pool = np.array([one.pool_bytes(model) for one in residences])
        moe = next(layer.moe for layer in model.moe_layers if layer.moe)
        row = model.hidden_size * model.activation_bytes
        rows = tokens * moe.top_k if capacity is None else ones * (moe.experts * capacity)[:, None]
        most = tokens.max(axis=1)
        masks = 0 if capacity is None else (most * moe.experts * capacity * MASK_BYTES)[:, None]
        parts = {
            "weights": ones * (replicated + resident),
            "kv_cache": kv_bytes,
            "activations": activation_bytes(model, tokens, requests),
            "masks": ones * masks,
            "all_to_all_buffers": 2 * rows * row if gpus > 1 else 0 * ones,
            "expert_slots": ones * pool,
            "copies_in_flight": 0 * ones,
        }
        return cls(parts, sum(one.offloaded_bytes(model) for one in residences), pinned)

    @property
    def pinned_bytes(self) -> int:
        """Host memory that the operating system must not move."""
        return self.host if self.pinned else 0

    def overflow(self, limit: int, host_limit: int) -> str | None:
        """What does not fit, in words; None where all fits."""
        if self.host > host_limit:
            kind = "pinned" if self.pinned else "pageable"
            return (
                f"the offloaded experts' {_gib(self.host)} of {kind} memory do not fit in the "
                f"host's {_gib(host_limit)}; take a machine with more host memory"
            )
        step, gpu = np.unravel_index(int(self.total.argmax()), self.total.shape)
        needed = int(self.total[step, gpu])
        if needed <= limit:
            return None
        sizes = {name: int(part[step, gpu]) for name, part in self.parts.items()}
        names = ", ".join(
            f"{name.replace('_', ' ')} {_gib(size)}"
            for name, size in sorted(sizes.items(), key=lambda item: -item[1])
            if size
        )
        return (
            f"GPU {gpu} at step {step} needs {_gib(needed)} of {_gib(limit)}, "
            f"{_gib(needed - limit)} too much: {names}"
        )

    def in_flight(self, misses: Ints, model: ModelSpec) -> None:
        """Move one expert's room from the slots to the copies in flight, in passes with ``misses``
        int64[passes, MoE layers, gpus].
        """
        sizes = np.array(expert_bytes(model))[:, None]
        moved = np.where(misses > 0, sizes, 0).max(axis=1)
        self.parts["copies_in_flight"] += moved
        self.parts["expert_slots"] -= moved

    def at_peak(self) -> dict[str, int]:
        """Bytes by category where the total is largest."""
        step, gpu = np.unravel_index(int(self.total.argmax()), self.total.shape)
        return {name: int(part[step, gpu]) for name, part in self.parts.items()}


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
