"""Which layers each GPU of a pipeline holds."""

from __future__ import annotations

from moesim.engine.case import Case
from moesim.experiment.building.footprints import sums_of
from moesim.experiment.schema.experts import Experts
from moesim.memory.footprint.footprint import expert_bytes, slots_of
from moesim.memory.footprint.shares import Share, stages


def stages_of_run(case: Case, room: Experts, count: int) -> tuple[Share, ...]:
    """``count`` stages of the whole run ``case``, each layer with its KV cache at its fullest.

    Experts count as far as ``room`` has slots for them: all of them where their number follows from
    what a GPU holds (bytes and ``auto``), none in layers on the CPU.
    """
    local = len(case.local_experts(0))
    known = room.capacity.kind in ("slots", "fraction")
    slots = slots_of(room.capacity, expert_bytes(case.model), local) if known else local
    held = [0 if on_cpu else slots for on_cpu in room.on_cpu.of(case.model)]
    tokens = {window: int(of.cached_tokens.max()) for window, of in sums_of(case).items()}
    cached = [
        tokens[layer.attention.window] * layer.attention.kv_bytes_per_token
        for layer in case.model.cached_layers
    ]
    return stages(case.model, held, cached, count)
