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
    """Experts on a GPU: local experts and slots of each MoE layer, or ``buffers`` in place of slots
    that all layers share in turn.
    """

    local: int
    slots: int
    buffers: int | None = None

    @property
    def holds_all(self) -> bool:
        """Whether all local experts are resident from the start."""
        return self.slots >= self.local


def slots_of(capacity: ExpertCapacity, model: ModelSpec, local: int) -> int:
    """Slots for each MoE layer on a GPU with ``local`` experts a layer; at least 1, at most
    ``local``.

    Bytes are divided equally over the MoE layers, rounded down.
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
    """Bytes by category: int64[passes, gpus] each; ``host`` bytes on the host.

    ``copies_in_flight`` is room of the expert slots that a copy is filling; it is moved out of
    ``expert_slots`` once the misses are known.
    """

    parts: dict[str, Ints]
    host: int

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
    ) -> Footprint:
        """From ``tokens``, ``requests``, ``kv_bytes`` int64[passes, gpus]; ``capacity``
        int64[passes] of a gating with masks, else None.
        """
        gpus, per_layer = len(residences), sum(expert_bytes(model))
        replicated, ones = replicated_bytes(model), np.ones_like(tokens)
        resident = np.array([r.local * per_layer if r.holds_all else 0 for r in residences])
        pool = np.array([_pool_bytes(r, model) for r in residences])
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
        offloaded = any(not r.holds_all for r in residences)
        experts = [layer.moe.experts for layer in model.moe_layers if layer.moe]
        host = sum(n * size for n, size in zip(experts, expert_bytes(model), strict=True))
        return cls(parts, host if offloaded else 0)

    def overflow(self, limit: int, host_limit: int) -> str | None:
        """What does not fit, in words; None where all fits."""
        if self.host > host_limit:
            return (
                f"the experts' {_gib(self.host)} do not fit in the host's {_gib(host_limit)}; "
                "take a machine with more host memory"
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
        moved = np.where(misses.any(axis=1), max(expert_bytes(model)), 0)
        self.parts["copies_in_flight"] += moved
        self.parts["expert_slots"] -= moved

    def at_peak(self) -> dict[str, int]:
        """Bytes by category where the total is largest."""
        step, gpu = np.unravel_index(int(self.total.argmax()), self.total.shape)
        return {name: int(part[step, gpu]) for name, part in self.parts.items()}


def _pool_bytes(residence: Residence, model: ModelSpec) -> int:
    if residence.holds_all:
        return 0
    if residence.buffers is not None:
        return residence.buffers * max(expert_bytes(model))
    return residence.slots * sum(expert_bytes(model))


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
