"""What a software stack always holds of a GPU's memory, by its profile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.described.software_memory import SoftwareMemory
from moesim.memory.footprint.blocks import reserved_bytes
from moesim.memory.footprint.footprint import Residence, expert_bytes
from moesim.memory.footprint.shares import Share
from moesim.model.spec import ModelSpec
from moesim.model.tensors import Tensors, of_network, tensors_of

Ints = NDArray[np.int64]
MANY = 60
"""Experts over which the segments of one are averaged: any number up to 6 divides it."""


def reserved_parts(
    memory: SoftwareMemory, shares: tuple[Share, ...], residences: tuple[Residence, ...], gpus: int
) -> dict[str, Ints]:
    """Bytes int64[shares] by category, of those that ``memory`` names: ``gpus`` exchange tokens."""
    found = {}
    if memory.table_positions:
        found["position_tables"] = [_tables(memory, share.model) for share in shares]
    if memory.allocator == "caching":
        every = zip(shares, residences, strict=True)
        tensors = [tensors_of(share.model, _held(one)) for share, one in every]
        found["allocator_blocks"] = [reserved_bytes(one) - _bytes(one) for one in tensors]
    if memory.peer_bytes or memory.collective_bytes:
        buffers = (gpus - 1) * memory.peer_bytes + (gpus > 1) * memory.collective_bytes
        found["communication_buffers"] = [buffers] * len(shares)
    return {name: np.array(sizes, np.int64) for name, sizes in found.items()}


def block_bytes(memory: SoftwareMemory, model: ModelSpec) -> list[int]:
    """What an expert of each MoE layer takes: its bytes, or its part of segments."""
    sizes = expert_bytes(model)
    if memory.allocator == "exact":
        return sizes
    networks = [layer.moe.expert for layer in model.moe_layers if layer.moe]
    many = [tuple(of_network(network, MANY)) for network in networks]
    return [
        size + -(-(reserved_bytes(one) - _bytes(one)) // MANY)
        for size, one in zip(sizes, many, strict=True)
    ]


def _held(residence: Residence) -> tuple[int, ...]:
    """Experts of each MoE layer that have room; buffers that layers share are in none of them."""
    slots = [min(slots, residence.local) for slots in residence.slots]
    if residence.buffers is None:
        return tuple(slots)
    return tuple(one if one == residence.local else 0 for one in slots)


def _bytes(tensors: Tensors) -> int:
    return sum(size * count for size, count in tensors)


def _tables(memory: SoftwareMemory, model: ModelSpec) -> int:
    """A table for each stack of the model."""
    stacks = len({layer.stack for layer in model.layers})
    return stacks * memory.table_positions * model.hidden_size * model.activation_bytes
